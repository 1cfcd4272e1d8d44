#include "stream/networks.h"

#include "model/cache_scales.h"

namespace narrow {
namespace {

// Without an FP8 cache there is but one arithmetic.
AttentionFigures FiguresOf(const PassRequest& request) {
  const bool cached =
      request.quantization
          ? request.quantization->cache == CacheScheme::kFp8
          : HasCacheScales(*request.checkpoint, LayersOf(*request.family, request.config));
  return cached ? request.attention : AttentionFigures::kDequantized;
}

// A checkpoint as it is.
std::vector<EvaluatedNetwork> SourceNetworks(AttentionFigures figures) {
  if (figures == AttentionFigures::kDequantized) return {{Use::kEvaluation, &kOriginal}};
  std::vector<EvaluatedNetwork> networks = {{Use::kEvaluation, &kSourceInFloat8}};
  if (figures == AttentionFigures::kBoth) {
    networks.push_back({Use::kEvaluation, &kSourceDequantized});
  }
  return networks;
}

}  // namespace

std::vector<EvaluatedNetwork> EvaluatedNetworks(const PassRequest& request) {
  if (request.cache_trials) {
    return {{Use::kEvaluation, &kOriginal},
            {Use::kEvaluation, &kCacheUnscaled},
            {Use::kEvaluation, &kCacheTensor},
            {Use::kEvaluation, &kCacheHeads}};
  }
  const AttentionFigures figures = FiguresOf(request);
  if (!request.quantization) return SourceNetworks(figures);
  std::vector<EvaluatedNetwork> networks = {{Use::kEvaluation, &kOriginal}};
  // With shared scales vLLM's requantization changes nothing: the two models are one.
  if (request.quantization->weight_scales == WeightScales::kPerMatrix) {
    networks.push_back({Use::kEvaluation, &kPseudo});
  }
  // The last stages go through the attributed windows anyway.
  if (request.attribution_windows > 0) {
    networks.push_back({Use::kAttribution, &kWeightsOnly});
    if (request.quantization->cache == CacheScheme::kFp8) {
      networks.push_back({Use::kAttribution, &kWithInputs});
    }
    if (figures == AttentionFigures::kFloat8) networks.push_back({Use::kAttribution, &kWithCache});
  }
  if (figures == AttentionFigures::kBoth) {
    networks.push_back({Use::kEvaluation, &kDeployedDequantized});
  }
  networks.push_back({Use::kEvaluation,
                      figures == AttentionFigures::kDequantized ? &kDeployed : &kDeployedInFloat8});
  return networks;
}

int64_t StagesAmongEvaluated(const PassRequest& request) {
  return request.quantization && FiguresOf(request) == AttentionFigures::kBoth ? 2 : 1;
}

}  // namespace narrow
