#include "model/fused_linear.h"

#include <utility>

#include "kernels/float8.h"

namespace narrow {

template <typename T>
FusedLinear<T>::FusedLinear(PackedMatrix<T> weights, std::vector<int64_t> rows,
                            std::vector<float> bias)
    : weights_(std::move(weights)), rows_(std::move(rows)), bias_(std::move(bias)) {
  SetEpilogue();
}

template <typename T>
void FusedLinear<T>::Quantize(LinearScales scales) {
  NARROW_CHECK(scales.weights.size() == rows_.size());
  scales_ = std::move(scales);
  TakeInputs(LinearInputs::kQuantized);
}

template <typename T>
void FusedLinear<T>::TakeInputs(LinearInputs inputs) {
  NARROW_CHECK(scales_.has_value());
  inputs_ = inputs;
  SetEpilogue();
}

template <typename T>
void FusedLinear<T>::SetEpilogue() {
  std::vector<float> scales;
  for (std::size_t i = 0; scales_ && i < rows_.size(); ++i) {
    const float input = inputs_ == LinearInputs::kQuantized ? scales_->input : 1.0f;
    scales.insert(scales.end(), static_cast<std::size_t>(rows_[i]), scales_->weights[i] * input);
  }
  weights_.SetEpilogue(scales, bias_);
}

template <typename T>
void FusedLinear<T>::RoundInput(MatrixView<T> x) const {
  if (!scales_ || inputs_ == LinearInputs::kOriginal) return;
  RoundToFloat8Grid(std::span<T>(x.data, static_cast<std::size_t>(x.rows * x.columns)),
                    scales_->input);
}

template class FusedLinear<float>;
template class FusedLinear<Bfloat16>;

}  // namespace narrow
