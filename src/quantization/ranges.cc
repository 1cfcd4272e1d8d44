#include "quantization/ranges.h"

#include <algorithm>
#include <cmath>

#include "kernels/column_maximum.h"

namespace narrow {

float LargestOf(const std::vector<float>& maxima) {
  return maxima.empty() ? 0.0f : *std::max_element(maxima.begin(), maxima.end());
}

template <typename T>
void ChannelMaxima::Include(MatrixView<const T> rows) {
  std::vector<float> found(values_.size());
  IncludeColumnMaxima<T>(rows, found);
  const std::lock_guard lock(mutex_);
  IncludeColumnMaxima<float>({found.data(), 1, std::ssize(found)}, values_);
}

const std::vector<float>& ChannelMaxima::Values(const std::string& what) const {
  if (!std::ranges::all_of(values_, [](float value) { return std::isfinite(value); })) {
    Fail(ErrorCode::kNumeric,
         "{} became NaN or infinite during calibration; check the weights up to this layer, or run "
         "with --data_type float32",
         what);
  }
  return values_;
}

template void ChannelMaxima::Include<float>(MatrixView<const float>);
template void ChannelMaxima::Include<Bfloat16>(MatrixView<const Bfloat16>);

}  // namespace narrow
