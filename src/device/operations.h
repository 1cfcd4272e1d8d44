// What a forward step does beside the products with weights: on tiles of rows, on the calling
// thread unless it says otherwise. A row's result depends on that row alone.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "device/operands.h"
#include "kernels/attention_heads.h"
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
void RotateHead(Operands head, std::span<const float> cosine, std::span<const float> sine);
void SwiGlu(ConstOperands gate, ConstOperands up, Operands out);

AbsoluteMaximum FindMaximum(ConstOperands row);

// A row of codes as numbers.
void DecodeFloat8(std::span<const Float8E4M3> codes, Operands row);

// x = E4M3(x / scale), as numbers: what the product with E4M3 weights reads, and the cache holds.
void RoundToFloat8Grid(Operands x, float scale);

// x [n, size] becomes x mixing^T, with mixing [size, size].
void MixHead(MatrixView<const float> mixing, Operands x);

// As kernels/attention.h: on all threads. Multiply-adds count as two operations.
void CausalAttention(const AttentionHeads& heads, std::span<const Sequence> sequences,
                     ConstOperands q, ConstOperands k, ConstOperands v, float score_scale,
                     float value_scale, Operands out);
int64_t CausalAttentionFlops(const AttentionHeads& heads, int64_t count);

// c [m, n] = a [m, k] b^T with b [n, k], and c [m, n] += a [m, k] b with b [k, n], in f32.
void ProductTransposed(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> c);
void ProductAdd(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> c);

}  // namespace narrow
