#include "model/spec.h"

#include <algorithm>

#include "base/error.h"

namespace narrow {
namespace {

void AddTensors(const NormSpec& norm, std::vector<NamedShape>& tensors) {
  if (!norm.weight.empty()) tensors.push_back({norm.weight, ShapeOf(norm)});
  if (!norm.bias.empty()) tensors.push_back({norm.bias, ShapeOf(norm)});
}

}  // namespace

Shape ShapeOf(const NormSpec& norm) {
  return norm.rows == 0 ? Shape{norm.size} : Shape{norm.rows, norm.size / norm.rows};
}

const std::string& LayerSpec::Parameter(ParameterRole role) const {
  const auto found = std::ranges::find(parameters, role, &ParameterSpec::role);
  NARROW_CHECK(found != parameters.end());
  return found->name;
}

std::vector<NamedShape> NormTensors(const LayerSpec& layer, std::span<const NormPlace> places) {
  std::vector<NamedShape> tensors;
  for (const NormPlace place : places) {
    if (layer.Norm(place)) AddTensors(*layer.Norm(place), tensors);
  }
  return tensors;
}

std::vector<NamedShape> SmallTensors(const LayerSpec& layer) {
  std::vector<NamedShape> tensors;
  const auto add_norms = [&](std::span<const NormPlace> places) {
    for (NamedShape& norm : NormTensors(layer, places)) tensors.push_back(std::move(norm));
  };
  add_norms(kAttentionNorms);
  for (const PlainTensor& tensor : PlainTensors(layer)) {
    tensors.push_back({tensor.name, tensor.shape});
  }
  add_norms(kMlpNorms);
  return tensors;
}

std::vector<PlainTensor> PlainTensors(const LayerSpec& layer) {
  std::vector<PlainTensor> tensors;
  for (const ParameterSpec& parameter : layer.parameters) {
    tensors.push_back({parameter.name, parameter.shape});
  }
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

std::vector<NamedShape> FinalNormTensors(const ModelSpec& model) {
  std::vector<NamedShape> tensors;
  AddTensors(model.final_norm, tensors);
  return tensors;
}

CacheWidths CacheWidthsOf(const LayerSpec& layer) {
  const AttentionHeads& heads = layer.attention.heads;
  if (layer.attention.As<DirectHeads>() != nullptr) {
    return {heads.query_width(), heads.key_value_width(), heads.value_width()};
  }
  const auto* latent = layer.attention.As<LatentHeads>();
  return {0, latent != nullptr ? latent->key_value_latent + latent->turned : 0, 0};
}

BasisFreedom FreedomOf(const LayerSpec& layer) {
  // A gate multiplies channels of V as they are; other forms have their own caches.
  const auto* direct = layer.attention.As<DirectHeads>();
  if (direct == nullptr || direct->gate != DirectHeads::OutputGate::kNone) return {};
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
