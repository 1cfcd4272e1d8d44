#include "kernels/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace narrow {
namespace {

// Scores of one step are 128 x 512 f32 (256 KiB) and stay in the second-level cache.
constexpr int64_t kQueryBlock = 128;
constexpr int64_t kKeyBlock = kAttentionKeyBlock;

// The buffers one thread needs for one block of queries.
template <typename T>
struct BlockState {
  explicit BlockState(int64_t head_size)
      : scores(kQueryBlock * kKeyBlock),
        probabilities(kQueryBlock * kKeyBlock),
        accumulator(kQueryBlock * head_size),
        row_maximum(kQueryBlock),
        row_sum(kQueryBlock),
        valid(kQueryBlock) {}

  AlignedBuffer<float> scores;       // [kQueryBlock, kKeyBlock]
  AlignedBuffer<T> probabilities;    // [kQueryBlock, kKeyBlock]
  AlignedBuffer<float> accumulator;  // [kQueryBlock, head_size]
  AlignedBuffer<float> row_maximum;  // [kQueryBlock]
  AlignedBuffer<float> row_sum;      // [kQueryBlock]
  AlignedBuffer<int64_t> valid;      // [kQueryBlock]
};

template <typename T>
BlockState<T>& ThreadState(int64_t head_size) {
  thread_local BlockState<T> state(head_size);
  if (state.accumulator.size() < kQueryBlock * head_size) state = BlockState<T>(head_size);
  return state;
}

// The first key that a query sees.
int64_t FirstKey(int64_t query, const AttentionScores& scoring) {
  int64_t first = 0;
  if (scoring.window > 0) first = std::max<int64_t>(0, query + 1 - scoring.window);
  if (scoring.chunk > 0) first = std::max(first, query - query % scoring.chunk);
  return first;
}

// The first block with a key that a query from `first` on sees.
int64_t FirstKeyBlock(int64_t first, const AttentionScores& scoring) {
  return FirstKey(first, scoring) / kKeyBlock * kKeyBlock;
}

// Takes the first `count` of a row's keys out of its sight.
void HideKeys(int64_t count, std::span<float> scores, int64_t& valid) {
  if (count >= valid) {
    valid = 0;
  } else if (count > 0) {
    std::ranges::fill(scores.first(static_cast<std::size_t>(count)),
                      -std::numeric_limits<float>::infinity());
  }
}

// Takes keys that are not selected out of a row's sight.
void HideOthers(const uint8_t* selected, std::span<float> scores) {
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (selected[i] == 0) scores[i] = -std::numeric_limits<float>::infinity();
  }
}

// One head of one block of queries: q [count, head_size], out [count, value channels] whose first
// query is token `first` of the sequence; k, v [tokens of the sequence, their size].
template <typename T>
void AttendBlock(int64_t first, MatrixView<const T> q, MatrixView<const T> k, MatrixView<const T> v,
                 const AttentionScores& scoring, MatrixView<const uint8_t> selected,
                 float value_scale, ProbabilityRounding rounding, const float* sink,
                 MatrixView<T> out) {
  const int64_t count = q.rows;
  BlockState<T>& state = ThreadState<T>(v.columns);
  const MatrixView<float> accumulator(state.accumulator.data(), count, v.columns);
  std::fill_n(state.accumulator.data(), count * v.columns, 0.0f);
  // A sink is a key that was met before all others.
  std::fill_n(state.row_maximum.data(), count,
              sink != nullptr ? *sink : std::numeric_limits<float>::lowest());
  std::fill_n(state.row_sum.data(), count, sink != nullptr ? 1.0f : 0.0f);
  const auto per_row = [count](auto& buffer) {
    return buffer.span().subspan(0, static_cast<std::size_t>(count));
  };
  const int64_t key_end = first + count;
  for (int64_t key = FirstKeyBlock(first, scoring); key < key_end; key += kKeyBlock) {
    const int64_t key_count = std::min(kKeyBlock, key_end - key);
    const MatrixView<float> scores(state.scores.data(), count, key_count);
    const MatrixView<T> probabilities(state.probabilities.data(), count, key_count);
    ProductTransposed<T>(q, k.RowBlock(key, key_count), scores);
    for (int64_t row = 0; row < count; ++row) {
      state.valid[row] = std::clamp<int64_t>(first + row + 1 - key, 0, key_count);
      if (scoring.softcap > 0.0f) SoftCap(scores.RowSpan(row), scoring.scale, scoring.softcap);
      HideKeys(FirstKey(first + row, scoring) - key, scores.RowSpan(row), state.valid[row]);
      if (selected.rows > 0) HideOthers(selected.Row(row) + key, scores.RowSpan(row));
    }
    SoftmaxStep<T>(scores, scoring.softcap > 0.0f ? 1.0f : scoring.scale, per_row(state.valid),
                   probabilities, per_row(state.row_maximum), per_row(state.row_sum), accumulator,
                   rounding);
    ProductAdd<T>(probabilities, v.RowBlock(key, key_count), accumulator);
  }
  for (int64_t row = 0; row < count; ++row) {
    ScaleTo<T>(accumulator.RowSpan(row), value_scale / state.row_sum[row], out.RowSpan(row));
  }
}

struct Block {
  Sequence sequence;
  int64_t first = 0;  // query, counted in the sequence
  int64_t count = 0;
  int64_t head = 0;
};

// The longest blocks first, so that the threads finish together.
std::vector<Block> ListBlocks(const AttentionHeads& heads, std::span<const Sequence> sequences) {
  std::vector<Block> blocks;
  for (const Sequence& sequence : sequences) {
    for (int64_t first = 0; first < sequence.count; first += kQueryBlock) {
      const int64_t count = std::min(kQueryBlock, sequence.count - first);
      for (int64_t head = 0; head < heads.query_heads; ++head) {
        blocks.push_back({sequence, first, count, head});
      }
    }
  }
  std::stable_sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) {
    return a.first + a.count > b.first + b.count;
  });
  return blocks;
}

}  // namespace

template <typename T>
void CausalAttention(const AttentionHeads& heads, std::span<const Sequence> sequences,
                     MatrixView<const T> q, MatrixView<const T> k, MatrixView<const T> v,
                     const AttentionScores& scoring, float value_scale, MatrixView<T> out,
                     ProbabilityRounding rounding, std::span<const float> sinks) {
  const std::vector<Block> blocks = ListBlocks(heads, sequences);
  const int64_t group = heads.sharing();
  const int64_t size = heads.head_size, value_size = heads.value_channels();
  ParallelFor(static_cast<int64_t>(blocks.size()), [&](int64_t i) {
    const Block& block = blocks[static_cast<std::size_t>(i)];
    const int64_t row = block.sequence.first + block.first;
    const auto head_of_keys = [&](MatrixView<const T> keys, int64_t width) {
      return keys.RowBlock(block.sequence.first, block.sequence.count)
          .ColumnBlock(block.head / group * width, width);
    };
    const MatrixView<const uint8_t> selected = scoring.selected == nullptr
                                                   ? MatrixView<const uint8_t>()
                                                   : scoring.selected->RowBlock(row, block.count);
    AttendBlock<T>(block.first, q.RowBlock(row, block.count).ColumnBlock(block.head * size, size),
                   head_of_keys(k, size), head_of_keys(v, value_size), scoring, selected,
                   value_scale, rounding,
                   sinks.empty() ? nullptr : &sinks[static_cast<std::size_t>(block.head)],
                   out.RowBlock(row, block.count).ColumnBlock(block.head * value_size, value_size));
  });
}

int64_t CausalAttentionFlops(const AttentionHeads& heads, int64_t count, int64_t window) {
  const int64_t seen = window == 0 ? count : std::min(window, count);
  const int64_t pairs = seen * (seen + 1) / 2 + (count - seen) * seen;
  return 2 * heads.query_heads * (heads.head_size + heads.value_channels()) * pairs;
}

template void CausalAttention<float>(const AttentionHeads&, std::span<const Sequence>,
                                     MatrixView<const float>, MatrixView<const float>,
                                     MatrixView<const float>, const AttentionScores&, float,
                                     MatrixView<float>, ProbabilityRounding,
                                     std::span<const float>);
template void CausalAttention<Bfloat16>(const AttentionHeads&, std::span<const Sequence>,
                                        MatrixView<const Bfloat16>, MatrixView<const Bfloat16>,
                                        MatrixView<const Bfloat16>, const AttentionScores&, float,
                                        MatrixView<Bfloat16>, ProbabilityRounding,
                                        std::span<const float>);

}  // namespace narrow
