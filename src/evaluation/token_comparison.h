// What quantization does to the prediction of each token, with the vocabulary in slices: no row of
// logits ever exists whole.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "kernels/matmul.h"
#include "tensor/tensor.h"

namespace narrow {

// How one network (the variant) predicts one token, beside the original network. The original's own
// outcome compares it with itself. Of equal logits the lower token ranks first.
struct TokenOutcome {
  double nll = 0.0;          // -log of the right token's probability, nats
  double kl = 0.0;           // KL(original || variant) of the two distributions, nats; not negative
  int32_t top1 = 0;          // the variant's most probable token
  bool top1_agrees = false;  // it is the original's most probable token, too
  bool top1_in_top5 = false;  // the original's most probable token is in the variant's top 5
  int8_t top5_overlap = 0;    // tokens in both top 5, in any order: 0 to 5. A vocabulary of
                              // less than five counts the missing ones as agreeing
  double probability() const { return std::exp(-nll); }  // of the right token
};

// Compares variants with the original over a tile of tokens, on the calling thread. original and
// each of variants: [rows, hidden], hidden states after the final norm; lm_head [vocabulary,
// hidden], whose panels are the slices; targets: the right tokens. Writes original_outcomes [rows]
// and variant_outcomes[v] [rows]. Logits and exponentials in f32, sums in f64
// (kernels/divergence.h), so that the width of the slices moves nll and kl by some 1e-7. A row's
// outcome depends on that row alone, and a variant's not on the other variants. NaN or infinite
// logits give nll or kl that are not finite. Takes 3 * rows * panel_rows floats, which the thread
// keeps. REQUIRES: as many outcomes and targets as rows; 0 <= target < vocabulary.
template <typename T>  // float or Bfloat16
void CompareTokens(const PackedMatrix<T>& lm_head, MatrixView<const T> original,
                   std::span<const MatrixView<const T>> variants, std::span<const int32_t> targets,
                   std::span<TokenOutcome> original_outcomes,
                   std::span<const std::span<TokenOutcome>> variant_outcomes);

}  // namespace narrow
