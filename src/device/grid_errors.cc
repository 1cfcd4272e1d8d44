#include "device/grid_errors.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/parallel.h"

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
  ParallelFor(DivideRoundUp(channels(), kStripColumns), [&](int64_t strip) {
    const int64_t first = strip * kStripColumns;
    const int64_t count = std::min(kStripColumns, channels() - first);
    WithElement(rows.type, [&](auto element) {
      using T = decltype(element);
      AddGridErrors<T>(rows.ColumnBlock(first, count).As<T>(),
                       {errors.ColumnBlock(first, count), squares.ColumnBlock(first, count)});
    });
  });
  rows_ += rows.rows;
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
