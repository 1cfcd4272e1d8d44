#include "model/fused_linear.h"

#include <numeric>
#include <utility>

#include "device/operations.h"

namespace narrow {
namespace {

constexpr TensorScheme kStaticFloat8 = {
    Code::kE4M3, {0, 0}, ScaleFormat::kFloat, Timing::kStatic, true};

// One row at a time, in f32. What is left of the scale multiplies the product.
void RoundRows(Operands x, const LinearInput& input, float factor) {
  thread_local AlignedBuffer<float> memory;
  if (memory.size() < x.columns) memory = AlignedBuffer<float>(x.columns);
  const std::span<float> row(memory.data(), static_cast<std::size_t>(x.columns));
  const MatrixView<float> values(memory.data(), 1, x.columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    ToFloats(x.RowBlock(r, 1), values);
    RoundInput(*input.scheme, input.values, row);
    if (factor != 1.0f) {
      for (float& value : row) value /= factor;
    }
    FromFloats(values, x.RowBlock(r, 1));
  }
}

}  // namespace

LinearInput StaticFloat8Input(float scale) { return {kStaticFloat8, {.scale = scale}}; }

FusedLinear::FusedLinear(PackedWeights weights, std::vector<int64_t> rows, std::vector<float> bias)
    : weights_(std::move(weights)), rows_(std::move(rows)), bias_(std::move(bias)) {
  SetEpilogue();
}

void FusedLinear::Quantize(LinearScales scales) {
  const auto rows = std::accumulate(rows_.begin(), rows_.end(), int64_t{0});
  NARROW_CHECK(scales.weights.size() == rows_.size() || std::ssize(scales.weights) == rows);
  scales_ = std::move(scales);
  TakeInputs(LinearInputs::kQuantized);
}

void FusedLinear::TakeInputs(LinearInputs inputs) {
  NARROW_CHECK(scales_.has_value());
  inputs_ = inputs;
  SetEpilogue();
}

float FusedLinear::InputFactor() const {
  if (!scales_ || inputs_ == LinearInputs::kOriginal || !scales_->input.scheme) return 1.0f;
  const LinearInput& input = scales_->input;
  if (input.scheme->timing == Timing::kStatic) return input.values.scale;
  if (input.scheme->scale == ScaleFormat::kE4M3WithGlobal) return 1.0f / input.values.global;
  return 1.0f;
}

void FusedLinear::SetEpilogue() {
  const float input = InputFactor();
  std::vector<float> scales;
  if (scales_ && scales_->weights.size() != rows_.size()) {
    scales = scales_->weights;
    for (float& scale : scales) scale *= input;
  } else if (scales_) {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      scales.insert(scales.end(), static_cast<std::size_t>(rows_[i]), scales_->weights[i] * input);
    }
  }
  weights_.SetEpilogue(scales, bias_);
}

void FusedLinear::RoundInput(Operands x) const {
  if (!scales_ || inputs_ == LinearInputs::kOriginal || !scales_->input.scheme) return;
  const LinearInput& input = scales_->input;
  if (*input.scheme == kStaticFloat8) return RoundToFloat8Grid(x, input.values.scale);
  RoundRows(x, input, InputFactor());
}

}  // namespace narrow
