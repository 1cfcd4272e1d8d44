#include "model/fused_linear.h"

#include <utility>

#include "device/operations.h"

namespace narrow {

FusedLinear::FusedLinear(PackedWeights weights, std::vector<int64_t> rows, std::vector<float> bias)
    : weights_(std::move(weights)), rows_(std::move(rows)), bias_(std::move(bias)) {
  SetEpilogue();
}

void FusedLinear::Quantize(LinearScales scales) {
  NARROW_CHECK(scales.weights.size() == rows_.size());
  scales_ = std::move(scales);
  TakeInputs(LinearInputs::kQuantized);
}

void FusedLinear::TakeInputs(LinearInputs inputs) {
  NARROW_CHECK(scales_.has_value());
  inputs_ = inputs;
  SetEpilogue();
}

void FusedLinear::SetEpilogue() {
  std::vector<float> scales;
  for (std::size_t i = 0; scales_ && i < rows_.size(); ++i) {
    const float input = inputs_ == LinearInputs::kQuantized ? scales_->input : 1.0f;
    scales.insert(scales.end(), static_cast<std::size_t>(rows_[i]), scales_->weights[i] * input);
  }
  weights_.SetEpilogue(scales, bias_);
}

void FusedLinear::RoundInput(Operands x) const {
  if (!scales_ || inputs_ == LinearInputs::kOriginal) return;
  RoundToFloat8Grid(x, scales_->input);
}

}  // namespace narrow
