#include "device/grid_errors.h"

#include <algorithm>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "base/ranks.h"

namespace narrow {
namespace {

constexpr int64_t kStripColumns = 64;  // one thread's share: whole vectors on every target

}  // namespace

GridErrors::GridErrors(int64_t channels)
    : errors_(kGridPhases * channels), squares_(kGridPhases * channels) {
  std::ranges::fill(errors_.span(), 0.0f);
  std::ranges::fill(squares_.span(), 0.0f);
}

void GridErrors::Add(ConstOperands rows) {
  const MatrixView<float> errors(errors_.data(), kGridPhases, channels());
  const MatrixView<float> squares(squares_.data(), kGridPhases, channels());
  const int64_t strips = DivideRoundUp(channels(), kStripColumns);
  const int64_t rank = JobRanks().rank(), ranks = JobRanks().count();
  ParallelFor(DivideRoundUp(strips - rank, ranks), [&](int64_t item) {
    const int64_t first = (rank + item * ranks) * kStripColumns;
    const int64_t count = std::min(kStripColumns, channels() - first);
    WithElement(rows.type, [&](auto element) {
      using T = decltype(element);
      AddGridErrors<T>(rows.ColumnBlock(first, count).As<T>(),
                       {errors.ColumnBlock(first, count), squares.ColumnBlock(first, count)});
    });
  });
  rows_ += rows.rows;
}

void GridErrors::Share() {
  const int64_t rank = JobRanks().rank(), ranks = JobRanks().count();
  if (ranks == 1) return;
  // Calls visit(values of a strip) for those of a rank.
  const auto strips_of = [&](int64_t owner, const auto& visit) {
    for (AlignedBuffer<float>* sums : {&errors_, &squares_}) {
      for (int64_t phase = 0; phase < kGridPhases; ++phase) {
        for (int64_t first = owner * kStripColumns; first < channels();
             first += ranks * kStripColumns) {
          const int64_t count = std::min(kStripColumns, channels() - first);
          visit(std::span(sums->data() + phase * channels() + first,
                          static_cast<std::size_t>(count)));
        }
      }
    }
  };
  std::vector<float> own;
  strips_of(rank,
            [&](std::span<float> strip) { own.insert(own.end(), strip.begin(), strip.end()); });
  JobRanks().InTurn(std::as_bytes(std::span(own)),
                    [&](int owner, std::span<const std::byte> bytes) {
                      const auto* next = reinterpret_cast<const float*>(bytes.data());
                      strips_of(owner, [&](std::span<float> strip) {
                        std::copy_n(next, strip.size(), strip.begin());
                        next += strip.size();
                      });
                    });
}

double GridErrors::Spread(int64_t phase, int64_t channel) const {
  if (rows_ == 0) return 0.0;
  const double sum = errors_[phase * channels() + channel];
  return std::max(0.0, Error(phase, channel) - sum * sum / static_cast<double>(rows_));
}

int64_t GridErrors::Bytes(int64_t channels) {
  return 2 * kGridPhases * channels * static_cast<int64_t>(sizeof(float));
}

}  // namespace narrow
