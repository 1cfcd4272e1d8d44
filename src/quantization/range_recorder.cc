#include "quantization/range_recorder.h"

#include <algorithm>
#include <cmath>

#include "kernels/column_maximum.h"

namespace narrow {

float LargestOf(const std::vector<float>& maxima) {
  return maxima.empty() ? 0.0f : *std::max_element(maxima.begin(), maxima.end());
}

template <typename T>
RangeRecorder<T>::RangeRecorder(const LayerSpec& spec) {
  for (const GroupSpec& group : GroupsOf(spec)) {
    inputs_[static_cast<std::size_t>(group.id)].Reset(group.columns);
  }
  keys_.Reset(RowsOf(spec, WeightRole::kKey));
  values_.Reset(RowsOf(spec, WeightRole::kValue));
}

template <typename T>
void RangeRecorder<T>::Maxima::Include(MatrixView<const T> rows) {
  std::vector<float> found(values_.size());
  IncludeColumnMaxima<T>(rows, found);
  const std::lock_guard lock(mutex_);
  IncludeColumnMaxima<float>({found.data(), 1, std::ssize(found)}, values_);
}

template <typename T>
const std::vector<float>& RangeRecorder<T>::Maxima::Values(const std::string& what) const {
  if (!std::ranges::all_of(values_, [](float value) { return std::isfinite(value); })) {
    Fail(ErrorCode::kNumeric,
         "{} became NaN or infinite during calibration; check the weights up to this layer, or run "
         "with --data_type float32",
         what);
  }
  return values_;
}

template <typename T>
void RangeRecorder<T>::OnInput(LinearGroup group, int64_t /*first_row*/, MatrixView<const T> rows) {
  inputs_[static_cast<std::size_t>(group)].Include(rows);
}

template <typename T>
void RangeRecorder<T>::OnKeys(int64_t /*first_row*/, MatrixView<const T> rows) {
  keys_.Include(rows);
}

template <typename T>
void RangeRecorder<T>::OnValues(int64_t /*first_row*/, MatrixView<const T> rows) {
  values_.Include(rows);
}

template <typename T>
LayerRanges RangeRecorder<T>::Ranges(const LayerSpec& spec) const {
  LayerRanges ranges;
  for (const LinearSpec& linear : spec.linears) {
    const auto group = static_cast<std::size_t>(linear.group);
    ranges.inputs[group] = inputs_[group].Values("the input of " + linear.module);
  }
  ranges.keys = keys_.Values("K of " + spec.attention_module);
  ranges.values = values_.Values("V of " + spec.attention_module);
  return ranges;
}

template class RangeRecorder<float>;
template class RangeRecorder<Bfloat16>;

}  // namespace narrow
