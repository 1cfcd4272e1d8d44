#include "quantization/calibration.h"

#include <algorithm>
#include <vector>

#include "base/checked_math.h"

namespace narrow {

template <typename T>
LayerCalibration<T>::LayerCalibration(const LayerSpec& spec, LayerHessians hessians,
                                      BasisStatistics basis)
    : ranges_(spec), hessians_(std::move(hessians)), basis_(std::move(basis)) {
  for (const GroupSpec& group : GroupsOf(spec)) {
    const auto g = static_cast<std::size_t>(group.id);
    inputs_[g].wanted = hessians_[g].has_value();
    inputs_[g].columns = group.columns;
  }
  queries_.wanted = keys_.wanted = basis_.keys.has_value();
  queries_.stride = keys_.stride = kKeyBasisTokenStride;
  queries_.columns = RowsOf(spec, WeightRole::kQuery);
  values_.wanted = basis_.values.has_value();
  keys_.columns = RowsOf(spec, WeightRole::kKey);
  values_.columns = RowsOf(spec, WeightRole::kValue);
}

template <typename T>
void LayerCalibration<T>::BeginBatch(int64_t first_row, int64_t rows) {
  first_row_ = first_row;
  rows_ = rows;
  const auto reserve = [&](BatchRows& batch) {
    const int64_t count = DivideRoundUp(rows, batch.stride) * batch.columns;
    if (batch.wanted && batch.rows.size() < count) batch.rows = AlignedBuffer<T>(count);
  };
  std::ranges::for_each(inputs_, reserve);
  reserve(queries_);
  reserve(keys_);
  reserve(values_);
}

template <typename T>
void LayerCalibration<T>::EndBatch() {
  for (std::size_t group = 0; group < kLinearGroupCount; ++group) {
    if (hessians_[group]) hessians_[group]->Add<T>(Collected(inputs_[group]));
  }
  if (basis_.keys) basis_.keys->Add<T>(Collected(queries_), Collected(keys_));
  if (basis_.values) basis_.values->Add<T>(Collected(values_));
}

template <typename T>
int64_t LayerCalibration<T>::TakenBefore(int64_t row, const BatchRows& batch) const {
  return DivideRoundUp(first_row_ + row, batch.stride) - DivideRoundUp(first_row_, batch.stride);
}

template <typename T>
void LayerCalibration<T>::Collect(int64_t first_row, MatrixView<const T> rows, BatchRows& batch) {
  if (!batch.wanted) return;
  for (int64_t row = 0; row < rows.rows; ++row) {
    if ((first_row_ + first_row + row) % batch.stride != 0) continue;
    std::copy_n(rows.Row(row), rows.columns,
                batch.rows.data() + TakenBefore(first_row + row, batch) * rows.columns);
  }
}

template <typename T>
MatrixView<const T> LayerCalibration<T>::Collected(const BatchRows& batch) const {
  return {batch.rows.data(), TakenBefore(rows_, batch), batch.columns};
}

template <typename T>
void LayerCalibration<T>::OnInput(LinearGroup group, int64_t first_row, MatrixView<const T> rows) {
  ranges_.OnInput(group, first_row, rows);
  Collect(first_row, rows, inputs_[static_cast<std::size_t>(group)]);
}

template <typename T>
void LayerCalibration<T>::OnQueries(int64_t first_row, MatrixView<const T> rows) {
  Collect(first_row, rows, queries_);
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
  return {ranges_.Ranges(spec), std::move(hessians_), std::move(basis_)};
}

int64_t CollectedBytes(const LayerSpec& spec, std::span<const GroupSpec> groups, bool basis,
                       int64_t rows, ComputeType compute) {
  int64_t columns = 0;
  for (const GroupSpec& group : groups) columns += group.columns;
  if (basis) {
    const int64_t scored = RowsOf(spec, WeightRole::kQuery) + RowsOf(spec, WeightRole::kKey);
    columns += RowsOf(spec, WeightRole::kValue) + DivideRoundUp(scored, kKeyBasisTokenStride);
  }
  return rows * columns * OperandBytes(compute);
}

template class LayerCalibration<float>;
template class LayerCalibration<Bfloat16>;

}  // namespace narrow
