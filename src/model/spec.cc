#include "model/spec.h"

#include <algorithm>

namespace narrow {
namespace {

void AddTensors(const NormSpec& norm, std::vector<NamedVector>& tensors) {
  if (!norm.weight.empty()) tensors.push_back({norm.weight, norm.size});
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

std::vector<PlainTensor> PlainTensors(const LayerSpec& layer) {
  std::vector<PlainTensor> tensors;
  if (layer.mlp && !layer.mlp->token_gate.empty()) {
    tensors.push_back({layer.mlp->token_gate + ".weight", {1, layer.hidden}});
  }
  if (!layer.attention.sinks.empty()) {
    tensors.push_back({layer.attention.sinks, {layer.attention.heads.query_heads}});
  }
  if (!layer.experts) return tensors;
  const ExpertsBlock& experts = *layer.experts;
  tensors.push_back({experts.router + ".weight", {experts.count, layer.hidden}});
  if (experts.router_bias == Bias::kPresent) {
    tensors.push_back({experts.router + ".bias", {experts.count}});
  }
  if (!experts.correction.empty()) tensors.push_back({experts.correction, {experts.count}});
  return tensors;
}

Shape PartShape(const TensorPart& part, int64_t columns) {
  return part.transposed ? Shape{part.experts, columns, part.rows}
                         : Shape{part.experts, part.rows, columns};
}

LayerSpec WithExperts(LayerSpec layer) {
  if (!layer.experts) return layer;
  const std::vector<LinearSpec>& linears = layer.experts->linears;
  layer.linears.insert(layer.linears.end(), linears.begin(), linears.end());
  return layer;
}

LayerSpec ExpertLayer(const LayerSpec& layer, int64_t expert) {
  const ExpertsBlock& experts = *layer.experts;
  const std::span<const LinearSpec> linears = experts.LinearsOf(expert);
  LayerSpec spec;
  spec.hidden = layer.hidden;
  spec.mlp = experts.mlp;
  spec.linears.assign(linears.begin(), linears.end());
  return spec;
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
