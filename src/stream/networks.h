// The two lists of a pass: what texts go through the model for, and the versions of the model.
// Each stream of hidden states is one of each.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "evaluation/attribution.h"
#include "quantization/layer_view.h"
#include "stream/streaming_pass.h"

namespace narrow {

// What a text goes through the model for.
enum class Use { kCalibration, kProbe, kEvaluation, kAttribution };

// A version of the model.
struct Network {
  std::string_view name;  // of the hidden states of evaluated texts
  // Of every layer, quantized or of the checkpoint that is judged; nothing: the source's as it is.
  std::optional<LayerView> view;
  std::optional<DivergenceSummary> PassResult::*summary = nullptr;  // over a whole text
  std::optional<CacheTrial> trial = std::nullopt;  // of a cache on the source's layers
};
inline constexpr Network kOriginal = {"original", {}};
inline constexpr Network kPseudo = {"pseudo", LayerView{LayerView::Weights::kStored},
                                    &PassResult::pseudo};
// A checkpoint by itself, as it is served.
inline constexpr Network kServed = {"original", LayerView{LayerView::Weights::kDeployed}};
inline constexpr Network kServedInFloat8 = {
    "float8", LayerView{LayerView::Weights::kDeployed, LinearInputs::kQuantized,
                        CacheContents::kQuantized, AttentionArithmetic::kFloat8}};
inline constexpr Network kServedDequantized = {
    "dequantized", LayerView{LayerView::Weights::kDeployed}, &PassResult::deployed_bf16_attention};
// A model whose weights stay, with caches that are tried.
inline constexpr Network kCacheUnscaled = {
    "unscaled", {}, &PassResult::cache_unscaled, CacheTrial::kUnscaled};
inline constexpr Network kCacheTensor = {
    "tensor", {}, &PassResult::cache_tensor, CacheTrial::kTensor};
inline constexpr Network kCacheHeads = {"heads", {}, &PassResult::cache_heads, CacheTrial::kHeads};
// Deployed weights alone, then inputs, then the KV cache, then the rest of attention: the stages of
// the attribution.
inline constexpr Network kWeightsOnly = {
    "weights",
    LayerView{LayerView::Weights::kDeployed, LinearInputs::kOriginal, CacheContents::kOriginal}};
inline constexpr Network kWithInputs = {
    "inputs",
    LayerView{LayerView::Weights::kDeployed, LinearInputs::kQuantized, CacheContents::kOriginal}};
inline constexpr Network kWithCache = {"cache", LayerView{LayerView::Weights::kDeployed}};
// As engines run it that dequantize the cache; where nothing else is evaluated, `kDeployed`.
inline constexpr Network kDeployedDequantized = {
    "dequantized", LayerView{LayerView::Weights::kDeployed}, &PassResult::deployed_bf16_attention};
inline constexpr Network kDeployed = {"deployed", LayerView{LayerView::Weights::kDeployed},
                                      &PassResult::deployed};
inline constexpr Network kDeployedInFloat8 = {
    "deployed",
    LayerView{LayerView::Weights::kDeployed, LinearInputs::kQuantized, CacheContents::kQuantized,
              AttentionArithmetic::kFloat8},
    &PassResult::deployed};
inline constexpr std::array kStages = {QuantizedPart::kWeights, QuantizedPart::kInputs,
                                       QuantizedPart::kCache, QuantizedPart::kAttention};

// Something is compared with the source: what it is quantized to, or another checkpoint.
bool Compares(const PassRequest& request);

// The streams of the evaluation and of its attribution, in the order in which a layer becomes their
// networks; the last of the evaluation is the deployed one, where something is compared. REQUIRES:
// there is an evaluation.
struct EvaluatedNetwork {
  Use use = Use::kEvaluation;
  const Network* network = nullptr;
};
std::vector<EvaluatedNetwork> EvaluatedNetworks(const PassRequest& request);

// What runs quantized in each stage of the attribution, the last as deployed. REQUIRES: something
// is quantized or judged.
std::vector<LayerView> StageViews(const PassRequest& request);

// How many of the last ones that see all of the evaluation are stages of the attribution.
int64_t StagesAmongEvaluated(const PassRequest& request);

}  // namespace narrow
