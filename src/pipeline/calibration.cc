#include "pipeline/calibration.h"

#include <algorithm>

#include "base/checked_math.h"

namespace narrow {

template <typename T>
void LayerCalibration<T>::BeginBatch(int64_t first_row, int64_t rows) {
  first_row_ = first_row;
  sampled_rows_ = DivideRoundUp(first_row + rows, kHessianTokenStride) -
                  DivideRoundUp(first_row, kHessianTokenStride);
  for (std::size_t group = 0; group < kLinearGroupCount; ++group) {
    if (!hessians_[group]) continue;
    const int64_t count = sampled_rows_ * hessians_[group]->columns();
    if (samples_[group].size() < count) samples_[group] = AlignedBuffer<T>(count);
  }
}

template <typename T>
void LayerCalibration<T>::EndBatch() {
  for (std::size_t group = 0; group < kLinearGroupCount; ++group) {
    if (!hessians_[group]) continue;
    hessians_[group]->Add(
        MatrixView<const T>(samples_[group].data(), sampled_rows_, hessians_[group]->columns()));
  }
}

template <typename T>
void LayerCalibration<T>::OnInput(LinearGroup group, int64_t first_row, MatrixView<const T> rows) {
  ranges_.OnInput(group, first_row, rows);
  const auto g = static_cast<std::size_t>(group);
  if (!hessians_[g]) return;
  const int64_t first_sample = DivideRoundUp(first_row_, kHessianTokenStride);
  for (int64_t row = 0; row < rows.rows; ++row) {
    const int64_t token = first_row_ + first_row + row;
    if (token % kHessianTokenStride != 0) continue;
    const int64_t slot = token / kHessianTokenStride - first_sample;
    std::copy_n(rows.Row(row), rows.columns, samples_[g].data() + slot * rows.columns);
  }
}

template class LayerCalibration<float>;
template class LayerCalibration<Bfloat16>;

}  // namespace narrow
