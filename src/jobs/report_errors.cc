// The parts of the report that tell where quantization costs.
#include <fmt/format.h>

#include "base/error.h"
#include "jobs/run_report.h"

namespace narrow {
namespace {

RunReport::Estimate Convert(const Estimate& estimate) {
  return {estimate.mean, estimate.standard_error};
}

const char* PartId(QuantizedPart part) {
  switch (part) {
    case QuantizedPart::kWeights:
      return "weights";
    case QuantizedPart::kInputs:
      return "inputs";
    case QuantizedPart::kCache:
      return "kv_cache";
  }
  Fail(ErrorCode::kInternal, "no such part: {}", static_cast<int>(part));
}

// `sum`: of all parts of all layers.
RunReport::LayerError LayerErrorOf(const LayerFacts& facts, double sum) {
  RunReport::LayerError layer;
  const auto add = [&](const char* part, double error) {
    const double share = sum > 0.0 ? error / sum : 0.0;
    layer.parts.push_back({part, error, share});
    layer.share += share;
  };
  for (const LinearGroup group : kLinearGroups) add(PartId(group), facts.errors->Group(group));
  if (facts.cache) add(PartId(std::optional<LinearGroup>()), facts.errors->cache);
  layer.all = facts.errors->all;
  return layer;
}

}  // namespace

const char* PartId(std::optional<LinearGroup> group) {
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
  }
  Fail(ErrorCode::kInternal, "no such group: {}", static_cast<int>(*group));
}

std::optional<RunReport::Attribution> AttributionOf(const PassResult& result) {
  if (result.part_costs.empty()) return std::nullopt;
  RunReport::Attribution attribution;
  attribution.windows = result.attributed_windows;
  for (const PartCost& cost : result.part_costs) {
    attribution.parts.push_back({PartId(cost.part), Convert(cost.kl), Convert(cost.kl_added),
                                 Convert(cost.nll_increase), Convert(cost.nll_added)});
  }
  return attribution;
}

void FillErrors(std::span<const LayerFacts> layers, RunReport& report) {
  NARROW_CHECK(layers.size() == report.layers.size());
  double sum = 0.0;
  for (const LayerFacts& layer : layers) {
    if (layer.errors) sum += layer.errors->Sum();
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].errors) report.layers[i].error = LayerErrorOf(layers[i], sum);
  }
}

void FillKept(const KeepRequest& request, const std::optional<KeptGroups>& kept,
              const PassResult& result, int64_t checkpoint_bytes, RunReport& report) {
  RunReport::Kept& record = report.kept.emplace();
  record.max_kl = request.max_kl;
  record.checkpoint_bytes = checkpoint_bytes;
  if (kept) {
    for (const LayerGroup& group : kept->groups) {
      record.groups.push_back(
          {group.layer, group.modules, group.error, group.share, group.extra_bytes});
    }
    record.extra_bytes = kept->extra_bytes();
    record.kl_without = kept->kl_without;
    record.kl_predicted = kept->kl_predicted;
    report.seconds.measuring = kept->seconds;
  }
  if (!request.max_kl || !report.evaluation || result.deployed->kl.mean <= *request.max_kl) return;
  report.evaluation->deployed->verdict += fmt::format("; the KL {:.4f} is above --max_kl {}",
                                                      result.deployed->kl.mean, *request.max_kl);
}

}  // namespace narrow
