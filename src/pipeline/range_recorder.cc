#include "pipeline/range_recorder.h"

#include "kernels/float8.h"

namespace narrow {

template <typename T>
void RangeRecorder<T>::Maximum::Include(std::span<const T> values) {
  const AbsoluteMaximum found = FindAbsoluteMaximum(values);
  if (!found.finite) finite_ = false;
  float current = amax_.load(std::memory_order_relaxed);
  while (found.amax > current && !amax_.compare_exchange_weak(current, found.amax)) {
  }
}

template <typename T>
float RangeRecorder<T>::Maximum::Value(const std::string& what) const {
  if (!finite_) {
    Fail(ErrorCode::kNumeric,
         "{} became NaN or infinite during calibration; check the weights up to this layer, or run "
         "with --data_type float32",
         what);
  }
  return amax_;
}

template <typename T>
void RangeRecorder<T>::OnInput(LinearGroup group, int64_t /*first_row*/, MatrixView<const T> rows) {
  Maximum& maximum = inputs_[static_cast<std::size_t>(group)];
  for (int64_t row = 0; row < rows.rows; ++row) maximum.Include(rows.RowSpan(row));
}

template <typename T>
void RangeRecorder<T>::OnKeys(std::span<const T> keys) {
  keys_.Include(keys);
}

template <typename T>
void RangeRecorder<T>::OnValues(std::span<const T> values) {
  values_.Include(values);
}

template <typename T>
LayerRanges RangeRecorder<T>::Ranges(const LayerSpec& spec) const {
  LayerRanges ranges;
  for (const LinearSpec& linear : spec.linears) {
    const auto group = static_cast<std::size_t>(linear.group);
    ranges.inputs[group] = inputs_[group].Value("the input of " + linear.module);
  }
  ranges.keys = keys_.Value("K of " + spec.attention_module);
  ranges.values = values_.Value("V of " + spec.attention_module);
  return ranges;
}

template class RangeRecorder<float>;
template class RangeRecorder<Bfloat16>;

}  // namespace narrow
