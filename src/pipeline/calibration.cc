#include "pipeline/calibration.h"

#include <algorithm>
#include <vector>

#include "base/checked_math.h"

namespace narrow {
namespace {

constexpr auto kAttended = static_cast<std::size_t>(LinearGroup::kAttentionOutput);

}  // namespace

template <typename T>
LayerCalibration<T>::LayerCalibration(const DecoderConfig& config, LayerHessians hessians,
                                      LayerGridErrors grid_errors)
    : ranges_(config), hessians_(std::move(hessians)), grid_errors_(std::move(grid_errors)) {
  for (const LinearGroup group : kLinearGroups) {
    const auto g = static_cast<std::size_t>(group);
    inputs_[g].wanted = hessians_[g].has_value();
    inputs_[g].columns = InputWidth(config, group);
  }
  inputs_[kAttended].wanted |= grid_errors_.attended.has_value();
  keys_.wanted = grid_errors_.keys.has_value();
  values_.wanted = grid_errors_.values.has_value();
  keys_.columns = values_.columns = config.key_value_width();
}

template <typename T>
void LayerCalibration<T>::BeginBatch(int64_t first_row, int64_t rows) {
  first_row_ = first_row;
  rows_ = rows;
  const auto reserve = [&](BatchRows& batch) {
    const int64_t count = rows * batch.columns;
    if (batch.wanted && batch.rows.size() < count) batch.rows = AlignedBuffer<T>(count);
  };
  std::ranges::for_each(inputs_, reserve);
  reserve(keys_);
  reserve(values_);
}

template <typename T>
void LayerCalibration<T>::EndBatch() {
  for (std::size_t group = 0; group < kLinearGroupCount; ++group) {
    const BatchRows& input = inputs_[group];
    if (hessians_[group]) hessians_[group]->Add<T>({input.rows.data(), rows_, input.columns});
  }
  AddGridErrors(inputs_[kAttended], grid_errors_.attended);
  AddGridErrors(keys_, grid_errors_.keys);
  AddGridErrors(values_, grid_errors_.values);
}

template <typename T>
void LayerCalibration<T>::Collect(int64_t first_row, MatrixView<const T> rows, BatchRows& batch) {
  if (!batch.wanted) return;
  for (int64_t row = 0; row < rows.rows; ++row) {
    std::copy_n(rows.Row(row), rows.columns, batch.rows.data() + (first_row + row) * rows.columns);
  }
}

// Tokens are counted in the text, so that batches do not matter.
template <typename T>
void LayerCalibration<T>::AddGridErrors(const BatchRows& batch,
                                        std::optional<GridErrors>& errors) const {
  if (!errors) return;
  const int64_t first = RoundUp(first_row_, kGridErrorTokenStride) - first_row_;
  if (first >= rows_) return;
  errors->Add<T>({batch.rows.data() + first * batch.columns,
                  DivideRoundUp(rows_ - first, kGridErrorTokenStride), batch.columns,
                  kGridErrorTokenStride * batch.columns});
}

template <typename T>
void LayerCalibration<T>::OnInput(LinearGroup group, int64_t first_row, MatrixView<const T> rows) {
  ranges_.OnInput(group, first_row, rows);
  Collect(first_row, rows, inputs_[static_cast<std::size_t>(group)]);
}

template <typename T>
void LayerCalibration<T>::OnKeys(int64_t first_row, MatrixView<const T> rows) {
  ranges_.OnKeys(first_row, rows);
  Collect(first_row, rows, keys_);
}

template <typename T>
void LayerCalibration<T>::OnValues(int64_t first_row, MatrixView<const T> rows) {
  ranges_.OnValues(first_row, rows);
  Collect(first_row, rows, values_);
}

template <typename T>
LayerStatistics LayerCalibration<T>::Take(const LayerSpec& spec) {
  return {ranges_.Ranges(spec), std::move(hessians_), std::move(grid_errors_)};
}

template class LayerCalibration<float>;
template class LayerCalibration<Bfloat16>;

}  // namespace narrow
