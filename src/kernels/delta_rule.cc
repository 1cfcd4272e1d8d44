#include "kernels/delta_rule.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/matmul.h"

namespace narrow {
namespace {

constexpr int64_t kSolvedBlock = 16;  // rows of the system that are solved one after the other

void Fill(MatrixView<float> x, float value) {
  for (int64_t row = 0; row < x.rows; ++row) std::ranges::fill(x.RowSpan(row), value);
}

}  // namespace

DeltaRule::DeltaRule(int64_t key_size, int64_t value_size)
    : key_size_(key_size),
      value_size_(value_size),
      state_(key_size * value_size),
      system_(kDeltaChunk * kDeltaChunk),
      seen_(kDeltaChunk * kDeltaChunk),
      written_(kDeltaChunk * value_size),
      transposed_(key_size * kDeltaChunk) {
  Reset();
}

int64_t DeltaRule::Bytes(int64_t key_size, int64_t value_size) {
  return static_cast<int64_t>(sizeof(float)) *
         (key_size * value_size + 2 * kDeltaChunk * kDeltaChunk +
          kDeltaChunk * (key_size + value_size));
}

void DeltaRule::Reset() { std::ranges::fill(state_.span(), 0.0f); }

void DeltaRule::Step(MatrixView<const float> q, MatrixView<const float> k,
                     MatrixView<const float> v, std::span<const float> log_decay,
                     std::span<const float> beta, MatrixView<float> out) {
  const int64_t count = q.rows;
  std::array<float, kDeltaChunk> decayed{};  // log of the decay from before the chunk on
  float sum = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    decayed[static_cast<std::size_t>(i)] = sum += log_decay[static_cast<std::size_t>(i)];
  }
  const auto since = [&](int64_t from, int64_t to) {
    return std::exp(decayed[static_cast<std::size_t>(to)] -
                    decayed[static_cast<std::size_t>(from)]);
  };
  const auto all = [&](int64_t to) { return std::exp(decayed[static_cast<std::size_t>(to)]); };
  const MatrixView<float> state(state_.data(), key_size_, value_size_);
  const MatrixView<float> system(system_.data(), count, count);
  const MatrixView<float> seen(seen_.data(), count, count);
  const MatrixView<float> written(written_.data(), count, value_size_);
  ProductTransposed<float>(k, k, system);
  ProductTransposed<float>(q, k, seen);
  // What the state holds at the keys, and at the queries, before the chunk.
  Fill(written, 0.0f);
  ProductAdd<float>(k, state, written);
  Fill(out, 0.0f);
  ProductAdd<float>(q, state, out);
  for (int64_t i = 0; i < count; ++i) {
    const float rate = beta[static_cast<std::size_t>(i)], decay = all(i);
    for (int64_t c = 0; c < value_size_; ++c) {
      written.Row(i)[c] = rate * (v.Row(i)[c] - decay * written.Row(i)[c]);
      out.Row(i)[c] *= decay;
    }
    for (int64_t j = 0; j < count; ++j) {
      system.Row(i)[j] *= j < i ? -rate * since(j, i) : 0.0f;
      seen.Row(i)[j] *= j <= i ? since(j, i) : 0.0f;
    }
  }
  Solve(count);
  ProductAdd<float>(seen, written, out);
  const MatrixView<float> transposed(transposed_.data(), key_size_, count);
  for (int64_t i = 0; i < count; ++i) {
    const float decay = since(i, count - 1);
    for (int64_t c = 0; c < key_size_; ++c) transposed.Row(c)[i] = decay * k.Row(i)[c];
  }
  const float decay = all(count - 1);
  for (float& value : state_.span()) value *= decay;
  ProductAdd<float>(transposed, written, state);
}

// written += system * written, row after row: what a token writes is less what those before it
// wrote at its key.
void DeltaRule::Solve(int64_t count) {
  const MatrixView<float> system(system_.data(), count, count);
  const MatrixView<float> written(written_.data(), count, value_size_);
  for (int64_t first = 0; first < count; first += kSolvedBlock) {
    const int64_t rows = std::min(kSolvedBlock, count - first);
    if (first > 0) {
      ProductAdd<float>(system.RowBlock(first, rows).ColumnBlock(0, first),
                        written.RowBlock(0, first), written.RowBlock(first, rows));
    }
    for (int64_t i = first; i < first + rows; ++i) {
      float* row = written.Row(i);
      for (int64_t j = first; j < i; ++j) {
        const float factor = system.Row(i)[j];
        const float* other = written.Row(j);
        for (int64_t c = 0; c < value_size_; ++c) row[c] += factor * other[c];
      }
    }
  }
}

}  // namespace narrow
