// What the report says of layers' output errors and of the linears that were kept because of them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "report/report.h"
#include "text/text_format.h"

namespace narrow {
namespace {

constexpr std::size_t kWorstLayers = 3;

// `sum`: of all parts of all layers.
LayerShares SharesOf(const RunReport::LayerRecord& record, double sum) {
  const LayerFacts& facts = record.facts;
  LayerShares layer;
  const auto add = [&](auto part, double error) {
    const double share = sum > 0.0 ? error / sum : 0.0;
    layer.parts.push_back({PartId(part), error, share});
    layer.share += share;
  };
  if (record.stages) {
    for (std::size_t i = 0; i < record.stages->stages.size(); ++i) {
      add(static_cast<QuantizedPart>(i), record.stages->stages[i]);
    }
    layer.all = record.stages->all;
    return layer;
  }
  for (std::size_t index = 0; index < kLinearGroupCount; ++index) {
    const auto group = static_cast<LinearGroup>(index);
    const bool usual = std::ranges::count(kLinearGroups, group) > 0;
    if (usual || std::ranges::count(facts.linears, group, &LinearFacts::group) > 0) {
      add(std::optional(group), facts.errors->Group(group));
    }
  }
  if (facts.cache) add(std::optional<LinearGroup>(), facts.errors->cache);
  layer.all = facts.errors->all;
  return layer;
}

}  // namespace

std::string_view PartId(QuantizedPart part) {
  switch (part) {
    case QuantizedPart::kWeights:
      return "weights";
    case QuantizedPart::kInputs:
      return "inputs";
    case QuantizedPart::kCache:
      return "kv_cache";
    case QuantizedPart::kAttention:
      return "queries_and_probabilities";
  }
  Fail(ErrorCode::kInternal, "no such part: {}", static_cast<int>(part));
}

std::string_view PartId(std::optional<LinearGroup> group) {
  if (!group) return "kv_cache";
  switch (*group) {
    case LinearGroup::kQueryKeyValue:
      return "qkv";
    case LinearGroup::kAttentionOutput:
      return "o";
    case LinearGroup::kGateUp:
      return "gate_up";
    case LinearGroup::kDown:
      return "down";
    case LinearGroup::kQueryFromLatent:
      return "q_b";
    case LinearGroup::kKeyValueFromLatent:
      return "kv_b";
    case LinearGroup::kDeltaRates:
      return "rates";
    case LinearGroup::kIndexQueries:
    case LinearGroup::kIndexKeys:
      return "indexer";
  }
  Fail(ErrorCode::kInternal, "no such group: {}", static_cast<int>(*group));
}

std::string DescribeAttention(const RunReport::Evaluation& evaluation) {
  if (!evaluation.attention) return "";
  constexpr const char* kFloat8 =
      "attention in FP8, queries and probabilities too, as vLLM computes it on most GPUs "
      "(FlashAttention 3, Triton, MI300, Blackwell)";
  constexpr const char* kDequantized =
      "attention over the dequantized cache, as on CPUs, with FlashAttention 4 on Hopper and on "
      "RDNA 3";
  switch (*evaluation.attention) {
    case AttentionFigures::kFloat8:
      return fmt::format("Deployed is with {}", kFloat8);
    case AttentionFigures::kDequantized:
      return fmt::format("Deployed is with {}", kDequantized);
    case AttentionFigures::kBoth:
      return fmt::format("Deployed is with {}; bf16 attention is with {}", kFloat8, kDequantized);
  }
  Fail(ErrorCode::kInternal, "no such figures: {}", static_cast<int>(*evaluation.attention));
}

std::string PartName(std::string_view id) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"qkv", "q/k/v"},
      {"gate_up", "gate/up"},
      {"kv_cache", "KV cache"},
      {"queries_and_probabilities", "queries and probabilities"}};
  for (const auto& [part, name] : kNames) {
    if (part == id) return std::string(name);
  }
  return std::string(id);
}

std::optional<RoundingError> RoundingErrorOf(const LinearFacts& linear) {
  // So do zeros of a linear whose sampled inputs were all zero, of which there is nothing to show.
  if (linear.output_error == 0.0 && linear.nearest_output_error == 0.0) return std::nullopt;
  return RoundingError{linear.output_error, linear.nearest_output_error};
}

std::optional<RoundingError> RoundingErrorOf(const LayerFacts& layer) {
  std::optional<RoundingError> sum;
  for (const LinearFacts& linear : layer.linears) {
    const std::optional<RoundingError> error = RoundingErrorOf(linear);
    if (!error) continue;
    if (!sum) sum.emplace();
    sum->compensated += error->compensated;
    sum->nearest += error->nearest;
  }
  return sum;
}

std::vector<std::optional<LayerShares>> OutputErrors(const RunReport& report) {
  double sum = 0.0;
  for (const RunReport::LayerRecord& layer : report.layers) {
    if (layer.facts.errors) sum += layer.facts.errors->Sum();
    if (layer.stages) sum += layer.stages->Sum();
  }
  std::vector<std::optional<LayerShares>> errors;
  for (const RunReport::LayerRecord& layer : report.layers) {
    errors.emplace_back();
    if (layer.facts.errors || layer.stages) errors.back() = SharesOf(layer, sum);
  }
  return errors;
}

std::string DescribeWorstLayers(const RunReport& report) {
  const std::vector<std::optional<LayerShares>> errors = OutputErrors(report);
  std::vector<std::size_t> layers;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (errors[i] && errors[i]->share > 0) layers.push_back(i);
  }
  std::ranges::stable_sort(layers, std::greater(), [&](std::size_t i) { return errors[i]->share; });
  if (layers.size() > kWorstLayers) layers.resize(kWorstLayers);
  std::string text;
  for (const std::size_t layer : layers) {
    const LayerShares& shares = *errors[layer];
    const auto worst = std::ranges::max_element(shares.parts, {}, &PartShare::share);
    if (!text.empty()) text += ", ";
    text += fmt::format("{} ({:.1f} %, {} most)", layer, 100 * shares.share, PartName(worst->id));
  }
  return text;
}

std::string DescribeKept(const RunReport& report) {
  NARROW_CHECK(report.kept.has_value());
  const std::size_t groups = report.kept->choice.groups.size();
  if (groups == 0) return "none";
  const int64_t extra = report.kept->choice.extra_bytes();
  const int64_t before = report.kept->checkpoint_bytes - extra;
  return fmt::format("{} group{} of linears, {} more (+{:.1f} %)", groups, groups == 1 ? "" : "s",
                     FormatBytes(extra),
                     100 * static_cast<double>(extra) / static_cast<double>(before));
}

std::string DescribeGroup(const LayerGroup& group) {
  std::string text;
  for (const std::string& linear : group.modules) {
    text += text.empty() ? linear : ", " + linear.substr(linear.rfind('.') + 1);
  }
  return text;
}

std::string DescribeLimit(const RunReport& report) {
  if (!report.kept || !report.kept->max_kl) return "";
  if (!report.evaluation) return "";
  const double limit = *report.kept->max_kl;
  const double kl = report.evaluation->deployed.kl.mean;
  std::string text = kl <= limit ? fmt::format("KL {:.4f} is within --max_kl {:.4f}", kl, limit)
                                 : fmt::format("KL {:.4f} is ABOVE --max_kl {:.4f}", kl, limit);
  const KeptGroups& choice = report.kept->choice;
  if (choice.kl_without && choice.kl_predicted) {
    text += fmt::format("; {:.4f} with all quantized, {:.4f} predicted", *choice.kl_without,
                        *choice.kl_predicted);
  }
  return text;
}

Estimate PerplexityChange(const DivergenceSummary& summary) {
  const Estimate& increase = summary.nll_increase;
  Estimate change{std::expm1(increase.mean), std::nullopt};
  if (increase.standard_error) {
    change.standard_error = std::exp(increase.mean) * *increase.standard_error;
  }
  return change;
}

std::string DeployedVerdict(const RunReport& report) {
  NARROW_CHECK(report.evaluation.has_value());
  const DivergenceSummary& deployed = report.evaluation->deployed;
  std::string verdict = Verdict(deployed);
  if (!report.kept || !report.kept->max_kl || deployed.kl.mean <= *report.kept->max_kl) {
    return verdict;
  }
  return verdict + fmt::format("; the KL {:.4f} is above --max_kl {}", deployed.kl.mean,
                               *report.kept->max_kl);
}

}  // namespace narrow
