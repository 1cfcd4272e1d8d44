#include "device/key_selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "device/operations.h"

namespace narrow {
namespace {

constexpr int64_t kQueryBlock = 64;

// Marks the highest of a row's scores, as PyTorch does: its choice among equals follows from how
// the standard library selects.
void MarkHighest(std::span<const float> scores, int64_t count, std::span<uint8_t> selected) {
  std::vector<std::pair<float, int64_t>> queue;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    queue.emplace_back(scores[i], static_cast<int64_t>(i));
  }
  const auto higher = [](const auto& a, const auto& b) { return a.first > b.first; };
  if (count * 64 <= std::ssize(queue)) {
    std::partial_sort(queue.begin(), queue.begin() + count, queue.end(), higher);
  } else {
    std::nth_element(queue.begin(), queue.begin() + count - 1, queue.end(), higher);
  }
  for (int64_t i = 0; i < count; ++i) {
    selected[static_cast<std::size_t>(queue[static_cast<std::size_t>(i)].second)] = 1;
  }
}

}  // namespace

void SelectKeys(const KeyScores& scores, std::span<const Sequence> sequences, ConstOperands q,
                ConstOperands k, MatrixView<const float> weights, MatrixView<uint8_t> selected) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(scores.size));
  for (const Sequence& text : sequences) {
    if (text.count <= scores.count) {
      for (int64_t row = 0; row < text.count; ++row) {
        std::ranges::fill(selected.RowSpan(text.first + row), uint8_t{1});
      }
      continue;
    }
    AlignedBuffer<float> memory(text.count * scores.size);
    const MatrixView<float> keys(memory.data(), text.count, scores.size);
    ToFloats(k.RowBlock(text.first, text.count), keys);
    const int64_t blocks = (text.count + kQueryBlock - 1) / kQueryBlock;
    ParallelFor(blocks, [&](int64_t block) {
      const int64_t first = block * kQueryBlock;
      const int64_t count = std::min(kQueryBlock, text.count - first);
      const int64_t seen = first + count;
      AlignedBuffer<float> queries(count * scores.size), products(count * seen);
      AlignedBuffer<float> sums(count * text.count);
      const MatrixView<float> head_queries(queries.data(), count, scores.size);
      const MatrixView<float> product(products.data(), count, seen);
      const MatrixView<float> sum(sums.data(), count, text.count);
      std::ranges::fill(sums.span(), 0.0f);
      for (int64_t head = 0; head < scores.heads; ++head) {
        ToFloats(q.RowBlock(text.first + first, count).ColumnBlock(head * scores.size, scores.size),
                 head_queries);
        ProductTransposed(head_queries, keys.RowBlock(0, seen), product);
        for (int64_t row = 0; row < count; ++row) {
          const float weight = weights.Row(text.first + first + row)[head];
          for (int64_t i = 0; i < seen; ++i) {
            sum.Row(row)[i] += weight * std::max(0.0f, scale * product.Row(row)[i]);
          }
        }
      }
      for (int64_t row = 0; row < count; ++row) {
        const std::span<float> all = sum.RowSpan(row);
        std::ranges::fill(all.subspan(static_cast<std::size_t>(first + row + 1)),
                          -std::numeric_limits<float>::infinity());
        const std::span<uint8_t> marks = selected.RowSpan(text.first + first + row);
        std::ranges::fill(marks, uint8_t{0});
        MarkHighest(all, scores.count, marks);
      }
    });
  }
}

}  // namespace narrow
