#include "model/spec.h"

#include <algorithm>

namespace narrow {
namespace {

void AddTensors(const NormSpec& norm, std::vector<NamedVector>& tensors) {
  tensors.push_back({norm.weight, norm.size});
  if (!norm.bias.empty()) tensors.push_back({norm.bias, norm.size});
}

}  // namespace

std::vector<NamedVector> NormTensors(const LayerSpec& layer, std::span<const NormPlace> places) {
  std::vector<NamedVector> tensors;
  for (const NormPlace place : places) {
    if (layer.Norm(place)) AddTensors(*layer.Norm(place), tensors);
  }
  return tensors;
}

std::vector<NamedVector> NormTensors(const LayerSpec& layer) {
  std::vector<NamedVector> tensors = NormTensors(layer, kAttentionNorms);
  std::ranges::move(NormTensors(layer, kMlpNorms), std::back_inserter(tensors));
  return tensors;
}

std::vector<NamedVector> FinalNormTensors(const ModelSpec& model) {
  std::vector<NamedVector> tensors;
  AddTensors(model.final_norm, tensors);
  return tensors;
}

BasisFreedom FreedomOf(const LayerSpec& layer) {
  // Rows with a bias keep their basis, and so do rows that lie in one matrix.
  const auto plain = [&](WeightRole role) {
    const auto linear = std::ranges::find(layer.linears, role, &LinearSpec::role);
    return linear != layer.linears.end() && linear->bias == Bias::kNone;
  };
  const std::optional<RotarySpec>& rotary = layer.attention.rotary;
  const bool commutes = !rotary || (rotary->pairs == RotaryPairs::kHalves &&
                                    rotary->width == layer.attention.heads.head_size);
  const bool normed = layer.Norm(NormPlace::kQuery) || layer.Norm(NormPlace::kKey);
  return {plain(WeightRole::kQuery) && plain(WeightRole::kKey) && commutes && !normed,
          plain(WeightRole::kValue)};
}

}  // namespace narrow
