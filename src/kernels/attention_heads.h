// How many heads attention has, how wide they are, and what they make of a query and a key.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace narrow {

struct AttentionHeads {
  int64_t query_heads = 0;
  int64_t key_value_heads = 0;  // divides query_heads (grouped-query attention)
  int64_t head_size = 0;        // of Q and K
  int64_t value_size = 0;       // of V and what attention makes of it; 0: as head_size

  int64_t value_channels() const { return value_size == 0 ? head_size : value_size; }
  int64_t value_width() const { return key_value_heads * value_channels(); }
  int64_t attended_width() const { return query_heads * value_channels(); }
  int64_t query_width() const { return query_heads * head_size; }
  int64_t key_value_width() const { return key_value_heads * head_size; }
  // Query heads that share a key-value head.
  int64_t sharing() const { return query_heads / key_value_heads; }
};

// How a query meets a key: score = scale q k^T, or softcap tanh(scale q k^T / softcap).
struct AttentionScores {
  AttentionScores(float factor, int64_t keys = 0, float cap = 0.0f)
      : scale(factor), window(keys), softcap(cap) {}

  float scale;
  int64_t window;     // keys that a query sees, its own among them; 0: all
  int64_t chunk = 0;  // tokens that see none before them, from the first on; 0: all are one
  float softcap;      // 0: none
  // Of each row of q: 1 for the keys that it sees, counted in its text; null: all up to its own.
  const MatrixView<const uint8_t>* selected = nullptr;
};

// What becomes of the probabilities of attention before they meet V.
enum class ProbabilityRounding {
  kOperand,  // the operand type
  // E4M3 at a scale of 2^-8 relative to the running maximum, which is exact in either operand type;
  // sums stay those of the unrounded ones. Source: FlashAttention 3, hopper/softmax.h (an offset
  // of 8 in base 2 of the maximum); vLLM 0.32, triton_unified_attention.py (p_scale = 256).
  kFloat8,
};

}  // namespace narrow
