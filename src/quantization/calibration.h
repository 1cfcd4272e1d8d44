// What calibration takes from one layer: ranges, second-order statistics of inputs, and what the
// basis of the heads is chosen by.
#pragma once

#include <array>
#include <optional>

#include "device/channel_maxima.h"
#include "device/compensation/hessian.h"
#include "quantization/head_basis/layer_basis.h"
#include "quantization/ranges.h"

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
class LayerCalibration final : public LayerObserver {
 public:
  // An accumulator in `hessians` and `basis` for everything whose statistics are wanted.
  LayerCalibration(const LayerSpec& spec, LayerHessians hessians, BasisStatistics basis);

  // Rows of the text, as operands of that type.
  void BeginBatch(ComputeType type, int64_t first_row, int64_t rows);
  // Every rank of the job has begun and observed a batch, of no rows where there was none left, and
  // these are one stretch of the text in the order of the ranks.
  void EndRound();
  // What is kept of a batch takes no memory until the next one.
  void ReleaseBatch();

  void OnInput(LinearGroup group, int64_t first_row, ConstOperands rows) override {
    Observe(first_row, rows, inputs_[static_cast<std::size_t>(group)]);
  }
  void OnQueries(int64_t first_row, ConstOperands rows) override {
    Observe(first_row, rows, queries_);
  }
  void OnKeys(int64_t first_row, ConstOperands rows) override { Observe(first_row, rows, keys_); }
  void OnValues(int64_t first_row, ConstOperands rows) override {
    Observe(first_row, rows, values_);
  }

  // The statistics of all ranks; the object is used up. Throws: kNumeric naming the module whose
  // input, K or V was NaN or infinite.
  LayerStatistics Take(const LayerSpec& spec);

 private:
  // What is seen of one tensor: its ranges, and, where wanted, rows of a batch, in the order of the
  // text.
  struct Observed {
    ChannelMaxima maxima;
    bool wanted = false;
    int64_t columns = 0;
    int64_t stride = 1;  // of the tokens, counted in the text, so that batches do not matter
    Operands rows;       // [tokens taken of the batch, columns], in `memory`
    OperandBuffer memory;
  };

  // Tokens of the text before `row` of the batch that are taken.
  int64_t TakenBefore(int64_t row, const Observed& tensor) const;
  void Observe(int64_t first_row, ConstOperands rows, Observed& tensor);
  void Collect(int64_t first_row, ConstOperands rows, Observed& tensor);
  ConstOperands Collected(const Observed& tensor) const;

  LayerHessians hessians_;
  BasisStatistics basis_;
  int64_t first_row_ = 0;
  int64_t rows_ = 0;
  std::array<Observed, kLinearGroupCount> inputs_;
  Observed queries_;
  Observed keys_;
  Observed values_;
};

// Memory of what a LayerCalibration keeps of a batch of `rows` rows: inputs of the groups it has
// accumulators for, and Q, K and V where it has `basis`.
int64_t CollectedBytes(const LayerSpec& spec, std::span<const GroupSpec> groups, bool basis,
                       int64_t rows, ComputeType compute);

}  // namespace narrow
