// Error-compensated rounding of a weight matrix to FP8 E4M3, or to any grid of numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/compensation/factor.h"
#include "kernels/input_rounding.h"

namespace narrow {

struct CompensatedRounding {
  int64_t saturated = 0;  // targets beyond 448 steps of the scale
  // sum over rows of (w - q) H (w - q)^T: the squared change of the layer's outputs over the tokens
  // of H (blocks on the diagonal only, where H has blocks). No damping in it.
  double error = 0.0;
  double nearest_error = 0.0;  // the same for rounding each weight to nearest
};

// Where the job has several ranks, all of them call it with the same arguments, and have all codes
// afterwards.
// Rounds weights [rows, factor.columns()] to codes (row-major, one byte each): code * scale is the
// rounded weight. Rows are independent and shared over all threads; the codes do not depend on how
// many there are. With a diagonal H the codes are those of rounding to nearest.
// REQUIRES: weights finite; scale > 0; codes.size() == rows * factor.columns().
CompensatedRounding RoundCompensated(const CompensationFactor& factor,
                                     MatrixView<const float> weights, float scale,
                                     std::span<std::byte> codes);

// Numbers that weights are rounded to: a number n of row r and column c stands for
// (n - zero) * scale, both at [r / block_rows * groups + c / group].
struct RoundingGrid {
  GridRule numbers;
  int64_t block_rows = 1;
  int64_t group = 0;
  int64_t groups = 1;
  std::span<const float> scales;  // > 0
  std::span<const float> zeros;   // or none
};

// The same to numbers of a grid [rows, factor.columns()], which may be the weights. Nothing
// is counted as saturated.
CompensatedRounding RoundCompensated(const CompensationFactor& factor,
                                     MatrixView<const float> weights, const RoundingGrid& grid,
                                     MatrixView<float> numbers);

// Memory of rounding RewriteRows of so many columns on `threads` threads, for budgets; a code, or a
// number, has so many bytes.
int64_t RoundingBytes(int64_t columns, int64_t threads, int64_t code_bytes = 1);

}  // namespace narrow
