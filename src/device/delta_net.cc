#include "device/delta_net.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "device/operations.h"
#include "kernels/delta_rule.h"
#include "kernels/elementwise.h"

namespace narrow {
namespace {

constexpr float kLengthEpsilon = 1e-6f;

// One head of q, k or v through convolution and SiLU, chunk by chunk.
class ConvolvedHead {
 public:
  // `weights`: [size, taps], of the head's channels.
  ConvolvedHead(std::span<const float> weights, int64_t size, int64_t taps)
      : size_(size),
        taps_(taps),
        weights_(taps * size),
        before_((kDeltaChunk + taps - 1) * size),
        after_(kDeltaChunk * size) {
    for (int64_t c = 0; c < size; ++c) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        weights_[tap * size + c] = weights[static_cast<std::size_t>(c * taps + tap)];
      }
    }
  }

  // Rows [first, first + count) of the head's columns of a text.
  MatrixView<float> Rows(ConstOperands text, int64_t first, int64_t count) {
    const int64_t history = taps_ - 1, missing = std::max<int64_t>(0, history - first);
    std::fill_n(before_.data(), missing * size_, 0.0f);
    const int64_t there = history - missing + count;
    ToFloats(text.RowBlock(first - history + missing, there),
             {before_.data() + missing * size_, there, size_});
    const MatrixView<float> out(after_.data(), count, size_);
    for (int64_t row = 0; row < count; ++row) {
      std::ranges::fill(out.RowSpan(row), 0.0f);
      for (int64_t tap = 0; tap < taps_; ++tap) {
        const float* x = before_.data() + (row + tap) * size_;
        const float* weight = weights_.data() + tap * size_;
        for (int64_t c = 0; c < size_; ++c) out.Row(row)[c] += weight[c] * x[c];
      }
    }
    Activate<float>(Activation::kSilu, MatrixView<const float>(out), {}, out);
    return out;
  }

 private:
  int64_t size_, taps_;
  AlignedBuffer<float> weights_;  // [taps, size]
  AlignedBuffer<float> before_;   // [taps - 1 + chunk, size]
  AlignedBuffer<float> after_;    // [chunk, size]
};

void ScaleToLength(MatrixView<float> x, float length) {
  for (int64_t row = 0; row < x.rows; ++row) {
    float squares = 0.0f;
    for (const float value : x.RowSpan(row)) squares += value * value;
    const float factor = length / std::sqrt(squares + kLengthEpsilon);
    for (float& value : x.RowSpan(row)) value *= factor;
  }
}

std::vector<float> Column(MatrixView<const float> x, int64_t column, int64_t first, int64_t count) {
  std::vector<float> values;
  for (int64_t row = first; row < first + count; ++row) values.push_back(x.Row(row)[column]);
  return values;
}

}  // namespace

void GatedDeltaRule(const DeltaNet& net, std::span<const Sequence> sequences, ConstOperands mixed,
                    std::span<const float> convolution, MatrixView<const float> log_decay,
                    MatrixView<const float> beta, Operands out) {
  const float query_length = 1.0f / std::sqrt(static_cast<float>(net.key_size));
  ParallelFor(std::ssize(sequences) * net.value_heads, [&](int64_t item) {
    const Sequence& sequence = sequences[static_cast<std::size_t>(item / net.value_heads)];
    const int64_t head = item % net.value_heads, key_head = head / net.sharing();
    const auto convolved = [&](int64_t column, int64_t size) {
      const auto first = static_cast<std::size_t>(column * net.taps);
      return ConvolvedHead(convolution.subspan(first, static_cast<std::size_t>(size * net.taps)),
                           size, net.taps);
    };
    const int64_t query_column = key_head * net.key_size;
    const int64_t key_column = net.key_width() + query_column;
    const int64_t value_column = 2 * net.key_width() + head * net.value_size;
    ConvolvedHead queries = convolved(query_column, net.key_size);
    ConvolvedHead keys = convolved(key_column, net.key_size);
    ConvolvedHead values = convolved(value_column, net.value_size);
    DeltaRule rule(net.key_size, net.value_size);
    AlignedBuffer<float> memory(kDeltaChunk * net.value_size);
    const ConstOperands text = mixed.RowBlock(sequence.first, sequence.count);
    for (int64_t first = 0; first < sequence.count; first += kDeltaChunk) {
      const int64_t count = std::min(kDeltaChunk, sequence.count - first);
      const int64_t row = sequence.first + first;
      const auto rows = [&](ConvolvedHead& part, int64_t column, int64_t size) {
        return part.Rows(text.ColumnBlock(column, size), first, count);
      };
      const MatrixView<float> q = rows(queries, query_column, net.key_size);
      const MatrixView<float> k = rows(keys, key_column, net.key_size);
      const MatrixView<float> v = rows(values, value_column, net.value_size);
      ScaleToLength(q, query_length);
      ScaleToLength(k, 1.0f);
      const MatrixView<float> attended(memory.data(), count, net.value_size);
      rule.Step(q, k, v, Column(log_decay, head, row, count), Column(beta, head, row, count),
                attended);
      FromFloats(attended,
                 out.RowBlock(row, count).ColumnBlock(head * net.value_size, net.value_size));
    }
  });
}

int64_t DeltaRuleFlops(const DeltaNet& net, int64_t tokens) {
  const int64_t in_chunk = 2 * kDeltaChunk * (net.key_size + net.value_size);
  return 2 * tokens * net.value_heads * (3 * net.key_size * net.value_size + in_chunk);
}

int64_t DeltaRuleThreadBytes(const DeltaNet& net) {
  const int64_t widths = 2 * net.key_size + net.value_size;
  return DeltaRule::Bytes(net.key_size, net.value_size) +
         static_cast<int64_t>(sizeof(float)) *
             (widths * (2 * kDeltaChunk + 2 * net.taps) + kDeltaChunk * net.value_size);
}

}  // namespace narrow
