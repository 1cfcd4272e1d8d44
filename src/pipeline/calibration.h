// What calibration takes from one layer: ranges, and where weights are rounded with compensation
// the second-order statistics of the inputs.
#pragma once

#include <array>
#include <optional>

#include "pipeline/range_recorder.h"
#include "quantization/compensation/hessian.h"

namespace narrow {

// Every fourth token: the statistics lose nothing that shows, at a quarter of the cost (Hessian
// sums cost as many operations per token as the layer's own products).
inline constexpr int64_t kHessianTokenStride = 4;

using LayerHessians = std::array<std::optional<HessianAccumulator>, kLinearGroupCount>;

// Observes the batches of one layer. OnInput and friends are thread-safe; the rest is called
// between forward steps. Results depend neither on threads nor on how the text was cut into
// batches.
template <typename T>
class LayerCalibration final : public LayerObserver<T> {
 public:
  // `hessians`: an accumulator for every group whose statistics are wanted.
  explicit LayerCalibration(LayerHessians hessians) : hessians_(std::move(hessians)) {}

  void BeginBatch(int64_t first_row, int64_t rows);  // rows of the text
  void EndBatch();

  void OnInput(LinearGroup group, int64_t first_row, MatrixView<const T> rows) override;
  void OnKeys(std::span<const T> keys) override { ranges_.OnKeys(keys); }
  void OnValues(std::span<const T> values) override { ranges_.OnValues(values); }

  // Throws: as RangeRecorder::Ranges.
  LayerRanges Ranges(const LayerSpec& spec) const { return ranges_.Ranges(spec); }
  LayerHessians TakeHessians() { return std::move(hessians_); }

 private:
  RangeRecorder<T> ranges_;
  LayerHessians hessians_;
  int64_t first_row_ = 0;
  int64_t sampled_rows_ = 0;
  std::array<AlignedBuffer<T>, kLinearGroupCount> samples_;  // [sampled rows of the batch, columns]
};

}  // namespace narrow
