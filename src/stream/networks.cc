#include "stream/networks.h"

#include "model/cache_scales.h"

namespace narrow {
namespace {

// What is quantized, or judged, or else the source has an FP8 cache.
bool HasCache(const PassRequest& request) {
  if (request.quantization) return request.quantization->cache == CacheScheme::kFp8;
  const PassSource source = request.judged.value_or(request.source());
  return HasCacheScales(*source.checkpoint, LayersOf(*source.family, source.config));
}

// Without an FP8 cache there is but one arithmetic.
AttentionFigures FiguresOf(const PassRequest& request) {
  return HasCache(request) ? request.attention : AttentionFigures::kDequantized;
}

// A checkpoint by itself.
std::vector<EvaluatedNetwork> ServedNetworks(AttentionFigures figures) {
  if (figures == AttentionFigures::kDequantized) return {{Use::kEvaluation, &kServed}};
  std::vector<EvaluatedNetwork> networks = {{Use::kEvaluation, &kServedInFloat8}};
  if (figures == AttentionFigures::kBoth) {
    networks.push_back({Use::kEvaluation, &kServedDequantized});
  }
  return networks;
}

}  // namespace

bool Compares(const PassRequest& request) {
  return request.quantization.has_value() || request.judged.has_value();
}

std::vector<EvaluatedNetwork> EvaluatedNetworks(const PassRequest& request) {
  if (request.cache_trials) {
    return {{Use::kEvaluation, &kOriginal},
            {Use::kEvaluation, &kCacheUnscaled},
            {Use::kEvaluation, &kCacheTensor},
            {Use::kEvaluation, &kCacheHeads}};
  }
  const AttentionFigures figures = FiguresOf(request);
  if (!Compares(request)) return ServedNetworks(figures);
  std::vector<EvaluatedNetwork> networks = {{Use::kEvaluation, &kOriginal}};
  // With shared scales vLLM's requantization changes nothing: the two models are one.
  if (request.quantization && request.quantization->weight_scales == WeightScales::kPerMatrix) {
    networks.push_back({Use::kEvaluation, &kPseudo});
  }
  // The last stages go through the attributed windows anyway.
  if (request.attribution_windows > 0) {
    networks.push_back({Use::kAttribution, &kWeightsOnly});
    if (HasCache(request)) networks.push_back({Use::kAttribution, &kWithInputs});
    if (figures == AttentionFigures::kFloat8) networks.push_back({Use::kAttribution, &kWithCache});
  }
  if (figures == AttentionFigures::kBoth) {
    networks.push_back({Use::kEvaluation, &kDeployedDequantized});
  }
  networks.push_back({Use::kEvaluation,
                      figures == AttentionFigures::kDequantized ? &kDeployed : &kDeployedInFloat8});
  return networks;
}

std::vector<LayerView> StageViews(const PassRequest& request) {
  const bool float8 = FiguresOf(request) != AttentionFigures::kDequantized;
  std::vector<LayerView> views = {*kWeightsOnly.view, *kWithInputs.view};
  if (HasCache(request)) views.push_back(*kWithCache.view);
  if (float8) views.push_back(*kDeployedInFloat8.view);
  return views;
}

int64_t StagesAmongEvaluated(const PassRequest& request) {
  return Compares(request) && FiguresOf(request) == AttentionFigures::kBoth ? 2 : 1;
}

}  // namespace narrow
