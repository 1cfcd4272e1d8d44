// Error-compensated rounding of a weight matrix to FP8 E4M3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/compensation/factor.h"

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

// Memory of rounding RewriteRows of so many columns on `threads` threads, for budgets.
int64_t RoundingBytes(int64_t columns, int64_t threads);

}  // namespace narrow
