// Which keys a query of sparse attention sees.
#pragma once

#include <cstdint>
#include <span>

#include "device/operands.h"
#include "tensor/sequence.h"

namespace narrow {

// Marks the `count` keys of a text that score highest for each of its queries, among those up to
// its own: selected [tokens, longest text] becomes 1 for them and 0 for others, columns counted in
// the text. The score of a key k is the sum over the heads of weights[head] relu(scale q[head] k).
// q: [tokens, heads * size]; k: [tokens, size]; weights: [tokens, heads]. Texts of no more than
// `count` tokens see all. Among equal scores, those that PyTorch's topk takes on a CPU. On all
// threads. Source: transformers 5, models/deepseek_v32 (DeepseekV32Indexer); PyTorch 2.13,
// aten/src/ATen/native/TopKImpl.h.
struct KeyScores {
  int64_t heads = 0;
  int64_t size = 0;
  int64_t count = 0;
};
void SelectKeys(const KeyScores& scores, std::span<const Sequence> sequences, ConstOperands q,
                ConstOperands k, MatrixView<const float> weights, MatrixView<uint8_t> selected);

}  // namespace narrow
