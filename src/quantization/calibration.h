// What calibration takes from one layer: ranges, second-order statistics of inputs, and what the
// basis of the heads is chosen by.
#pragma once

#include <array>
#include <optional>

#include "quantization/compensation/hessian.h"
#include "quantization/head_basis/layer_basis.h"
#include "quantization/range_recorder.h"

namespace narrow {

// Second-order statistics are of every token: those of every fourth cost a quarter, but leave 4 %
// more divergence on SmolLM2 (docs/accuracy.md). To choose a pair's angle and factor from a few,
// every fourth token is enough.
inline constexpr int64_t kKeyBasisTokenStride = 4;

using LayerHessians = std::array<std::optional<HessianAccumulator>, kLinearGroupCount>;

// What a layer's quantization is decided by.
struct LayerStatistics {
  LayerRanges ranges;
  LayerHessians hessians;
  BasisStatistics basis;
};

// Observes the batches of one layer. OnInput and friends are thread-safe; the rest is called
// between forward steps. Results depend neither on threads nor on how the text was cut into
// batches.
template <typename T>
class LayerCalibration final : public LayerObserver<T> {
 public:
  // An accumulator in `hessians` and `basis` for everything whose statistics are wanted.
  LayerCalibration(const LayerSpec& spec, LayerHessians hessians, BasisStatistics basis);

  void BeginBatch(int64_t first_row, int64_t rows);  // rows of the text
  void EndBatch();

  void OnInput(LinearGroup group, int64_t first_row, MatrixView<const T> rows) override;
  void OnQueries(int64_t first_row, MatrixView<const T> rows) override;
  void OnKeys(int64_t first_row, MatrixView<const T> rows) override;
  void OnValues(int64_t first_row, MatrixView<const T> rows) override;

  // The statistics; the object is used up. Throws: as RangeRecorder::Ranges.
  LayerStatistics Take(const LayerSpec& spec);

 private:
  // Rows of one tensor of a batch, in the order of the text.
  struct BatchRows {
    bool wanted = false;
    int64_t columns = 0;
    int64_t stride = 1;     // of the tokens, counted in the text, so that batches do not matter
    AlignedBuffer<T> rows;  // [tokens taken of the batch, columns]
  };

  // Tokens of the text before `row` of the batch that are taken.
  int64_t TakenBefore(int64_t row, const BatchRows& batch) const;
  void Collect(int64_t first_row, MatrixView<const T> rows, BatchRows& batch);
  MatrixView<const T> Collected(const BatchRows& batch) const;

  RangeRecorder<T> ranges_;
  LayerHessians hessians_;
  BasisStatistics basis_;
  int64_t first_row_ = 0;
  int64_t rows_ = 0;
  std::array<BatchRows, kLinearGroupCount> inputs_;
  BatchRows queries_;
  BatchRows keys_;
  BatchRows values_;
};

// Memory of what a LayerCalibration keeps of a batch of `rows` rows: inputs of the groups it has
// accumulators for, and Q, K and V where it has `basis`.
int64_t CollectedBytes(const LayerSpec& spec, std::span<const GroupSpec> groups, bool basis,
                       int64_t rows, ComputeType compute);

}  // namespace narrow
