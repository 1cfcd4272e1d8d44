// How fast this machine is at what a job consists of, from a few seconds of measuring.
#pragma once

#include <cstdint>
#include <filesystem>

#include "kernels/matmul.h"

namespace narrow {

// Operations and bytes per second, over all threads.
struct MachineRates {
  double products = 0;    // matrix products of the layers, operations
  double hessian = 0;     // sums of second-order statistics, operations
  double factoring = 0;   // Cholesky factorization in f64, operations
  double rounding = 0;    // error-compensated rounding, operations
  double packing = 0;     // bytes of weights brought into the layout of the products
  double disk_read = 0;   // bytes, not from the page cache
  double disk_write = 0;  // bytes, until they are on the disk
};

// `columns`: width of the model's hidden states. Takes two or three seconds on an idle machine.
void MeasureCompute(ComputeType compute, int64_t columns, MachineRates& rates);

// Writes a file of 256 MB (a quarter of the free space if that is less) in `directory`, reads it
// back past the page cache and removes it. Throws: kIo when the directory cannot be written.
void MeasureDisk(const std::filesystem::path& directory, MachineRates& rates);

}  // namespace narrow
