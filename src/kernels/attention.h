// Causal attention in blocks: scores of one head exist for one block of queries and one block of
// keys at a time, never for a whole window.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention_heads.h"
#include "tensor/scalar_types.h"
#include "tensor/sequence.h"
#include "tensor/tensor.h"

namespace narrow {

// Keys whose scores exist together. GPUs take 32 (Triton's unified attention) to some 200
// (FlashAttention 3, from the last block to the first).
inline constexpr int64_t kAttentionKeyBlock = 512;

// out = softmax(score(q, k), causal) v * value_scale, per head and sequence.
// q: [tokens, query_heads * head_size]; k: [tokens, key_value_heads * head_size]; v, out: [tokens,
// key-value or query heads * value_channels]; q and k are already rotated.
// Products with f32 accumulation, softmax in f32, probabilities rounded to T.
// With ProbabilityRounding::kFloat8 probabilities are E4M3 numbers relative to the largest score up
// to the end of their block of kAttentionKeyBlock keys; blocks go from the first key to the last.
// `sinks` holds a score for each query head that takes part in every softmax without a value;
// empty: none. Source: transformers 5, models/gpt_oss/modeling_gpt_oss.py. `out` may be q of the
// same width (a block of queries is read before it is written) but must not overlap k or v. Uses
// all threads; the result does not depend on their number. Source: Dao et al., FlashAttention,
// 2022, algorithm 1 (block order: keys inside queries).
template <typename T>  // float or Bfloat16
void CausalAttention(const AttentionHeads& heads, std::span<const Sequence> sequences,
                     MatrixView<const T> q, MatrixView<const T> k, MatrixView<const T> v,
                     const AttentionScores& scoring, float value_scale, MatrixView<T> out,
                     ProbabilityRounding rounding = ProbabilityRounding::kOperand,
                     std::span<const float> sinks = {});

// Multiply-adds, counted as two operations each, that attention over a sequence of `count` tokens
// needs (the causal half, of it the window).
int64_t CausalAttentionFlops(const AttentionHeads& heads, int64_t count, int64_t window);

}  // namespace narrow
