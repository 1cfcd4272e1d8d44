// The loops of rounding with error feedback (device/compensation): one column of a weight
// matrix, for many of its rows at a time. On the calling thread; each row's result depends on that
// row alone.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace narrow {

// Row counts of all spans below are multiples of this.
inline constexpr int64_t kFeedbackLanes = 64;
// Rows of the weights that a thread rounds at a time: calls with a multiple of as many times the
// threads keep all of them busy.
inline constexpr int64_t kRoundingChunkRows = 128;

// sum[r] += factors[0] * errors[0][r] + factors[1] * errors[1][r] + ...
void AddFeedback(std::span<const float> factors, MatrixView<const float> errors,
                 std::span<float> sum);

// target[r] = weights[r] + correction[r]; exactly weights[r] (also -0) where the correction is 0.
void AddCorrection(std::span<const float> weights, std::span<const float> correction,
                   std::span<float> target);

// errors[r] = weights[r] - scale * codes[r] (codes decoded), and adds up
// compensated_squares[r] += (errors[r] + correction[r])^2 * pivot, squares[r] += errors[r]^2.
void MeasureRounding(std::span<const float> weights, std::span<const float> correction,
                     std::span<const float> codes, float scale, float pivot,
                     std::span<float> errors, std::span<float> compensated_squares,
                     std::span<float> squares);

}  // namespace narrow
