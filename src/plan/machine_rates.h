// How fast this machine is at what a job consists of, from a few seconds of measuring.
#pragma once

#include <cstdint>
#include <filesystem>

#include "model/family.h"
#include "tensor/compute_type.h"

namespace narrow {

// Operations and bytes per second, over all threads.
struct MachineRates {
  double products = 0;  // matrix products alone, operations
  double layer = 0;     // a whole layer: products, attention, norms, activations; operations of
                        // products and attention
  double quantized_layer = 0;  // the same with inputs, K and V rounded to FP8
  double hessian = 0;          // sums of second-order statistics, operations
  double factoring = 0;        // Cholesky factorization in f64, operations
  double rounding = 0;         // error-compensated rounding, operations
  double packing = 0;  // bytes of weights checked and brought into the layout of the products
  double rewriting =
      0;  // bytes of weights taken out of it, converted to f32 and back, put in again
  double disk_read = 0;   // bytes, not from the page cache
  double disk_write = 0;  // bytes, until they are on the disk
  double network = 0;     // bytes between the ranks of a job; given, not measured
};

// What the rates are to be measured on.
struct MeasuredShape {
  const ModelFamily* family = nullptr;
  DecoderConfig config;
  ComputeType compute = ComputeType::kBfloat16;
  int64_t text_tokens = 0;           // length of the texts that attention goes over
  int64_t statistics_columns = 256;  // of a block of second-order statistics
};

// Takes a few seconds on an idle machine and, for the largest models, a gigabyte of memory.
void MeasureCompute(const MeasuredShape& shape, MachineRates& rates);

// Writes a file of 256 MB (a quarter of the free space if that is less) in `directory`, reads it
// back past the page cache and removes it. Throws: kIo when the directory cannot be written.
void MeasureDisk(const std::filesystem::path& directory, MachineRates& rates);

}  // namespace narrow
