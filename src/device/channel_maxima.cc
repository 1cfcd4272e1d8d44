#include "device/channel_maxima.h"

#include <algorithm>
#include <cmath>

#include "base/ranks.h"
#include "kernels/column_maximum.h"

namespace narrow {

void ChannelMaxima::Include(ConstOperands rows) {
  std::vector<float> found(values_.size());
  WithElement(rows.type, [&](auto element) {
    using T = decltype(element);
    IncludeColumnMaxima<T>(rows.As<T>(), found);
  });
  const std::lock_guard lock(mutex_);
  IncludeColumnMaxima<float>({found.data(), 1, std::ssize(found)}, values_);
}

void ChannelMaxima::Share() { JobRanks().Maximum(values_); }

const std::vector<float>& ChannelMaxima::Values(const std::string& what) const {
  if (!std::ranges::all_of(values_, [](float value) { return std::isfinite(value); })) {
    Fail(ErrorCode::kNumeric,
         "{} became NaN or infinite during calibration; check the weights up to this layer, or run "
         "with --data_type float32",
         what);
  }
  return values_;
}

}  // namespace narrow
