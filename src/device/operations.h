// What a forward step does beside the products with weights: on tiles of rows, on the calling
// thread unless it says otherwise. A row's result depends on that row alone.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "device/operands.h"
#include "kernels/attention_heads.h"
#include "kernels/elementwise.h"
#include "kernels/float8.h"
#include "tensor/sequence.h"

namespace narrow {

// Calls tile(first, count) for every `tile_rows` of `rows` rows, on all threads.
void ForTiles(int64_t rows, int64_t tile_rows,
              const std::function<void(int64_t first, int64_t count)>& tile);

// Operands as f32, exactly, and f32 as operands, rounded to nearest even. Of one shape.
void ToFloats(ConstOperands from, MatrixView<float> to);
void FromFloats(MatrixView<const float> from, Operands to);

// Of one type and shape.
void Copy(ConstOperands from, Operands to);

// As the kernels of the same names.
void RmsNorm(MatrixView<const float> x, std::span<const float> weight, float epsilon, Operands y);
void LayerNorm(MatrixView<const float> x, std::span<const float> weight,
               std::span<const float> bias, float epsilon, Operands y);
void Activate(Activation activation, ConstOperands gate, ConstOperands up, Operands out);

// Rotates the first 2 * cosine.size() elements of a row in place. Pairs are i and i + half, or,
// where interleaved, 2 i and 2 i + 1.
enum class RotaryPairs { kHalves, kInterleaved };
void RotateHead(Operands head, RotaryPairs pairs, std::span<const float> cosine,
                std::span<const float> sine);

// x *= scale, in f32.
void Scale(Operands x, float scale);

AbsoluteMaximum FindMaximum(ConstOperands row);

// A row of codes as numbers.
void DecodeFloat8(std::span<const Float8E4M3> codes, Operands row);

// x = E4M3(x / scale), as numbers: what the product with E4M3 weights reads, and the cache holds.
void RoundToFloat8Grid(Operands x, float scale);

// x [n, size] becomes x mixing^T, with mixing [size, size].
void MixHead(MatrixView<const float> mixing, Operands x);

// As kernels/attention.h: on all threads. Multiply-adds count as two operations.
void CausalAttention(const AttentionHeads& heads, std::span<const Sequence> sequences,
                     ConstOperands q, ConstOperands k, ConstOperands v,
                     const AttentionScores& scoring, float value_scale, Operands out,
                     ProbabilityRounding rounding = ProbabilityRounding::kOperand,
                     std::span<const float> sinks = {});
int64_t CausalAttentionFlops(const AttentionHeads& heads, int64_t count, int64_t window = 0);

// c [m, n] = a [m, k] b^T with b [n, k], and c [m, n] += a [m, k] b with b [k, n], in f32.
void ProductTransposed(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> c);
void ProductAdd(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> c);

}  // namespace narrow
