// The loops of a decoder layer that are not matrix products. SIMD with run-time dispatch; each runs
// on the calling thread over the rows it is given, and its result for a row depends on that row
// alone, so any split of the rows over threads gives the same bits.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention_heads.h"
#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {

void ConvertToFloat(std::span<const Bfloat16> from, std::span<float> to);
void ConvertToFloat(std::span<const Float16> from, std::span<float> to);
// Round to nearest even.
void ConvertToBfloat16(std::span<const float> from, std::span<Bfloat16> to);
void ConvertToBfloat16(std::span<const Float16> from, std::span<Bfloat16> to);

// Operands of products as f32, exactly, and f32 as operands, rounded to nearest even.
void ToFloats(std::span<const float> from, std::span<float> to);
void ToFloats(std::span<const Bfloat16> from, std::span<float> to);
void FromFloats(std::span<const float> from, std::span<float> to);
void FromFloats(std::span<const float> from, std::span<Bfloat16> to);

// y[r] = weight * x[r] / sqrt(mean(x[r]^2) + epsilon), sums in f32 (several lanes), output rounded
// to T. x: [rows, hidden], y: [rows, hidden], weight: [hidden].
// Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.
template <typename T>  // float or Bfloat16
void RmsNorm(MatrixView<const float> x, std::span<const float> weight, float epsilon,
             MatrixView<T> y);

// Rotates one head vector in place, pairing element i with i + size/2 (the layout of Hugging Face
// checkpoints): x[i] = x[i]*cos[i] - x[i+h]*sin[i]; x[i+h] = x[i+h]*cos[i] + x[i]*sin[i].
// cosine, sine: [size/2] of the token's position. Arithmetic in f32, rounded to T once.
// Source: Su et al., RoFormer, 2021, section 3.4.2.
template <typename T>  // float or Bfloat16
void RotateHead(std::span<const T> x, std::span<const float> cosine, std::span<const float> sine,
                std::span<T> y);

// y[r] = weight * (x[r] - mean) / sqrt(variance + epsilon) + bias, sums in f32, output rounded to
// T. y may be x. weight, bias: [hidden]; no bias where it is empty. Source: Ba et al., Layer
// Normalization, 2016.
template <typename T>  // float or Bfloat16
void LayerNorm(MatrixView<const float> x, std::span<const float> weight,
               std::span<const float> bias, float epsilon, MatrixView<T> y);

// What an MLP does between its products, and what gates are made of. GELU is its approximation by
// tanh.
enum class Activation { kSilu, kGeluTanh, kSquaredRelu, kSigmoid };

// out[r][i] = activation(gate[r][i]) * up[r][i], in f32, rounded to T once; without the factor
// where `up` has no rows. silu(x) = x / (1 + exp(-x)). Source: Hendrycks and Gimpel,
// Gaussian Error Linear Units, 2016; So et al., Primer, 2021.
template <typename T>  // float or Bfloat16
void Activate(Activation activation, MatrixView<const T> gate, MatrixView<const T> up,
              MatrixView<T> out);

// x[i] = cap * tanh(x[i] * scale / cap). REQUIRES: cap > 0.
void SoftCap(std::span<float> x, float scale, float cap);

// One step of the streaming (online) softmax over a block of scores, row by row:
//   m' = max(row_maximum, max(scale * scores)), p = exp(scale * scores - m'),
//   correction = exp(row_maximum - m'), row_sum = row_sum * correction + sum(p),
//   row_maximum = m', accumulator row *= correction.
// scores: [rows, columns] f32; only the first valid[r] columns of row r count, the others give p =
// 0. (valid[r] may be 0: then p = 0 and the state of the row is unchanged.) probabilities: [rows,
// columns] of T, rounded as `rounding` says (to T: ties either way); row_maximum, row_sum: [rows];
// accumulator: [rows, width] f32. REQUIRES: scale > 0. Source: Milakov and Gimelshein, Online
// normalizer calculation for softmax, 2018.
template <typename T>  // float or Bfloat16
void SoftmaxStep(MatrixView<const float> scores, float scale, std::span<const int64_t> valid,
                 MatrixView<T> probabilities, std::span<float> row_maximum,
                 std::span<float> row_sum, MatrixView<float> accumulator,
                 ProbabilityRounding rounding = ProbabilityRounding::kOperand);

// y[i] = x[i] * scale rounded to T.
template <typename T>  // float or Bfloat16
void ScaleTo(std::span<const float> x, float scale, std::span<T> y);

}  // namespace narrow
