#include "quantization/warnings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

struct Finding {
  double severity = 0.0;
  std::string sentence;
};

// The two worst sentences, the second of which says how many more there are.
void Report(std::vector<Finding> findings, const char* what, std::vector<std::string>& warnings) {
  constexpr std::size_t kShown = 2;
  std::ranges::stable_sort(findings, std::ranges::greater(), &Finding::severity);
  const std::size_t shown = std::min(kShown, findings.size());
  for (std::size_t i = 0; i < shown; ++i) warnings.push_back(std::move(findings[i].sentence));
  if (findings.size() > shown) {
    warnings.back() += fmt::format(" ({} more {} like these; narrow-report.json lists them)",
                                   findings.size() - shown, what);
  }
}

// The flag that leaves a linear as it is, with those that are fused with it.
std::string ExcludeFlag(const LayerFacts& layer, const LinearFacts& linear) {
  if (layer.experts && linear.module.starts_with(layer.experts->module + '.')) {
    return fmt::format("--exclude_layers '{}.*'", layer.experts->module);
  }
  std::string flag = "--exclude_layers";
  for (const LinearFacts& other : layer.linears) {
    if (other.group == linear.group) flag += ' ' + other.module;
  }
  return flag;
}

// Calls visit(layer, linear) for every linear.
template <typename Visit>
void ForEachLinear(std::span<const LayerFacts> layers, const Visit& visit) {
  for (const LayerFacts& layer : layers) {
    for (const LinearFacts& linear : layer.linears) visit(layer, linear);
  }
}

std::vector<Finding> Saturated(std::span<const LayerFacts> layers) {
  std::vector<Finding> findings;
  ForEachLinear(layers, [&](const LayerFacts& layer, const LinearFacts& linear) {
    if (linear.elements == 0) return;
    const double share =
        static_cast<double>(linear.saturated) / static_cast<double>(linear.elements);
    if (share <= kSaturationLimit) return;
    findings.push_back(
        {share, fmt::format("{}: {:.2f} % of the weights lie beyond the range of FP8 and are cut; "
                            "keep it as it is with {}",
                            linear.module, 100 * share, ExcludeFlag(layer, linear))});
  });
  return findings;
}

std::vector<Finding> Tiny(std::span<const LayerFacts> layers) {
  std::vector<Finding> findings;
  ForEachLinear(layers, [&](const LayerFacts& layer, const LinearFacts& linear) {
    if (linear.weight_scale == 0.0f || !(linear.weight_scale < kSmallestExactScale)) return;
    findings.push_back(
        {1.0 / linear.weight_scale,
         fmt::format(
             "{}: the weight scale {:.3g} is below 3e-5, where vLLM's float16 steps at load "
             "stop being exact; keep it as it is with {}",
             linear.module, linear.weight_scale, ExcludeFlag(layer, linear))});
  });
  return findings;
}

std::vector<Finding> Dead(std::span<const LayerFacts> layers) {
  std::vector<Finding> findings;
  ForEachLinear(layers, [&](const LayerFacts& layer, const LinearFacts& linear) {
    if (linear.input_amax != 0.0f) return;
    findings.push_back(
        {1.0, fmt::format("{}: its input was zero throughout calibration, so its scale says "
                          "nothing; calibrate on more or other text (--num_calib_data, --dataset), "
                          "or keep it as it is with {}",
                          linear.module, ExcludeFlag(layer, linear))});
  });
  return findings;
}

// A scale that all layers have, each of its own. Fused linears share their inputs, and perhaps a
// scale of their weights: what they share is one scale, that of the first of them.
enum class ScaleKind { kWeight, kInput, kKey, kValue };
struct ScaleOf {
  ScaleKind kind;
  WeightRole role = WeightRole::kKey;
  auto operator<=>(const ScaleOf&) const = default;
};

const char* Name(ScaleKind kind) {
  switch (kind) {
    case ScaleKind::kWeight:
      return "weight scale";
    case ScaleKind::kInput:
      return "input scale";
    case ScaleKind::kKey:
      return "K scale";
    case ScaleKind::kValue:
      break;
  }
  return "V scale";
}

struct NamedScale {
  std::string module;
  float scale = 0.0f;
  std::string remedy;
};
using ScalesByRole = std::map<ScaleOf, std::vector<NamedScale>>;

ScalesByRole CollectScales(std::span<const LayerFacts> layers) {
  ScalesByRole scales;
  for (const LayerFacts& layer : layers) {
    std::set<std::pair<LinearGroup, float>> inputs, weights;
    for (const LinearFacts& linear : layer.linears) {
      const std::string remedy =
          "if the loss suffers, keep it as it is with " + ExcludeFlag(layer, linear);
      if (weights.insert({linear.group, linear.weight_scale}).second) {
        scales[{ScaleKind::kWeight, linear.role}].push_back(
            {linear.module, linear.weight_scale, remedy});
      }
      // The scale of an input that was always zero has a warning of its own.
      if (linear.input_amax > 0.0f && inputs.insert({linear.group, linear.input_scale}).second) {
        scales[{ScaleKind::kInput, linear.role}].push_back(
            {linear.module, linear.input_scale, remedy});
      }
    }
    if (!layer.cache) continue;
    const std::string& attention = layer.cache->attention_module;
    const std::string remedy = "compare the loss with that of a run without --kv_cache_dtype";
    scales[{ScaleKind::kKey}].push_back({attention, layer.cache->key_scale, remedy});
    scales[{ScaleKind::kValue}].push_back({attention, layer.cache->value_scale, remedy});
  }
  return scales;
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void AddOutliers(ScaleKind kind, const std::vector<NamedScale>& scales,
                 std::vector<Finding>& findings) {
  constexpr std::size_t kFewestLayers = 5;     // for "usual" to mean anything
  constexpr double kNormalDeviation = 1.4826;  // standard deviations of a normal law in its MAD
  std::vector<double> logs, deviations;        // to base 2, in which powers of two are exact
  for (const NamedScale& scale : scales) {
    if (scale.scale > 0.0f) logs.push_back(std::log2(scale.scale));
  }
  if (logs.size() < kFewestLayers) return;
  const double median = Median(logs);
  for (const double log : logs) deviations.push_back(std::fabs(log - median));
  const double limit = std::max(std::log2(kOutlierFactor),
                                kOutlierDeviations * kNormalDeviation * Median(deviations));
  for (const NamedScale& scale : scales) {
    if (!(scale.scale > 0.0f)) continue;
    const double distance = std::log2(scale.scale) - median;
    if (std::fabs(distance) < limit) continue;
    findings.push_back(
        {std::fabs(distance),
         fmt::format("{}: the {} {:.3g} is {:.0f} times {} than is usual in the other layers; {}",
                     scale.module, Name(kind), scale.scale, std::exp2(std::fabs(distance)),
                     distance > 0 ? "larger" : "smaller", scale.remedy)});
  }
}

// A layer's experts that hardly any token chose.
std::vector<Finding> RareExperts(std::span<const LayerFacts> layers) {
  std::vector<Finding> findings;
  for (const LayerFacts& layer : layers) {
    if (!layer.experts) continue;
    const std::vector<int64_t>& tokens = layer.experts->tokens;
    const auto rare =
        std::ranges::count_if(tokens, [](int64_t count) { return count < kFewExpertTokens; });
    if (rare == 0) continue;
    findings.push_back(
        {static_cast<double>(rare),
         fmt::format("{}: {} of {} experts saw fewer than {} of the {} calibration tokens; their "
                     "ranges are those of the layer, and their weights are rounded without "
                     "statistics: calibrate on more text (--num_calib_data), or with "
                     "--calibrate_all_experts",
                     layer.experts->module, rare, tokens.size(), kFewExpertTokens,
                     layer.experts->calibration_tokens)});
  }
  return findings;
}

}  // namespace

TokenVariety CountVariety(const TokenStream& stream, int64_t vocabulary) {
  std::vector<bool> seen(static_cast<std::size_t>(vocabulary));
  for (const int32_t token : stream.tokens) {
    NARROW_CHECK(token >= 0 && token < vocabulary);
    seen[static_cast<std::size_t>(token)] = true;
  }
  return {stream.size(), std::ranges::count(seen, true), vocabulary};
}

std::vector<std::string> QuantizationWarnings(std::span<const LayerFacts> layers,
                                              const TokenVariety& calibration) {
  std::vector<std::string> warnings;
  if (calibration.distinct < std::min(kFewDistinctTokens, calibration.vocabulary / 4)) {
    warnings.push_back(fmt::format(
        "the calibration text has only {} distinct tokens among {}, so the inputs it shows are "
        "hardly those of use; calibrate on more or other text (--num_calib_data, --dataset)",
        calibration.distinct, calibration.tokens));
  }
  Report(Saturated(layers), "linears", warnings);
  Report(Tiny(layers), "linears", warnings);
  Report(Dead(layers), "linears", warnings);
  Report(RareExperts(layers), "layers", warnings);
  std::vector<Finding> outliers;
  for (const auto& [of, scales] : CollectScales(layers)) AddOutliers(of.kind, scales, outliers);
  Report(std::move(outliers), "scales", warnings);
  return warnings;
}

std::optional<std::string> LatentCacheRemark(const ModelFamily& family, const DecoderConfig& config,
                                             CacheScheme cache) {
  const bool latent = std::ranges::any_of(LayersOf(family, config), [](const LayerSpec& layer) {
    return layer.attention.As<LatentHeads>() != nullptr;
  });
  if (cache == CacheScheme::kNone || !latent) return std::nullopt;
  return "vLLM 0.32 loads no scale for the cache of latent attention, under any name, and takes "
         "1.0: "
         "so does the deployed figure; k_scale is written for servers that read it";
}

}  // namespace narrow
