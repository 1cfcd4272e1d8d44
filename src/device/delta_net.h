// Linear attention by the gated delta rule, on all threads.
#pragma once

#include <cstdint>
#include <span>

#include "device/operands.h"
#include "tensor/sequence.h"

namespace narrow {

// A Gated DeltaNet. Its input is q, k, v of all heads and the gate of its output (z), which are
// products of the hidden states; a short causal convolution goes over each channel of q, k and v.
// Source: Yang et al., Gated Delta Networks, 2024; transformers 5, models/qwen3_next, qwen3_5.
struct DeltaNet {
  int64_t key_heads = 0;    // of q and k
  int64_t value_heads = 0;  // of v and the gate; a multiple of key_heads
  int64_t key_size = 0;
  int64_t value_size = 0;
  int64_t taps = 0;  // of the convolution: the token's own and those before it
  // Rows of the linears: all of q, of k, of v, of z (kByPart), or q, k, v, z of a key head after
  // those of the other; of the rates likewise.
  enum class Layout { kByPart, kByKeyHead } layout = Layout::kByPart;

  int64_t key_width() const { return key_heads * key_size; }
  int64_t value_width() const { return value_heads * value_size; }
  int64_t mixed_width() const { return 2 * key_width() + value_width(); }
  int64_t sharing() const { return value_heads / key_heads; }
};

// out [tokens, value width] = the delta rule over q, k, v, of which `mixed` [tokens, mixed width]
// is convolved with `convolution` [mixed width, taps] and goes through SiLU first; q and k then
// have length 1, q is divided by sqrt(key size). log_decay, beta: [tokens, value heads]. The
// arithmetic is in f32, `out` rounded once. Results depend neither on threads nor on batches.
void GatedDeltaRule(const DeltaNet& net, std::span<const Sequence> sequences, ConstOperands mixed,
                    std::span<const float> convolution, MatrixView<const float> log_decay,
                    MatrixView<const float> beta, Operands out);

// Multiply-adds, counted as two operations each, of that over a text.
int64_t DeltaRuleFlops(const DeltaNet& net, int64_t tokens);

// What each thread holds meanwhile.
int64_t DeltaRuleThreadBytes(const DeltaNet& net);

}  // namespace narrow
