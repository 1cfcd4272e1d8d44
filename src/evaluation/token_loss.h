// The loss of each token, with the vocabulary in slices: no row of logits ever exists whole.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/matmul.h"
#include "tensor/tensor.h"

namespace narrow {

// nll[i] = log(sum over the vocabulary of exp(logit)) - logit of targets[i], in nats: logits in
// f32, sums in f64. normed [rows, hidden]: hidden states after the final norm; lm_head [vocabulary,
// hidden], whose panels are the slices. Runs on the calling thread; a row's result does not depend
// on the other rows, and equals the original's of CompareTokens. REQUIRES: targets and nll have
// normed.rows elements, 0 <= target < vocabulary.
template <typename T>  // float or Bfloat16
void TokenLosses(const PackedMatrix<T>& lm_head, MatrixView<const T> normed,
                 std::span<const int32_t> targets, std::span<double> nll);

// Rows of an lm_head slice: logits of 256 tokens by one slice (1 MB) stay in a core's cache.
inline constexpr int64_t kVocabularySlice = 1024;
inline constexpr int64_t kLossTileRows = 256;

}  // namespace narrow
