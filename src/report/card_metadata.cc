#include "report/card_metadata.h"

#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "io/json.h"
#include "text/named_datasets.h"

namespace narrow {
namespace {

// A YAML double-quoted scalar, which JSON's strings are.
std::string YamlString(std::string_view text) {
  return Json(text).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

std::string Member(std::string_view key, const std::optional<std::string>& value) {
  return value ? fmt::format("{}: {}\n", key, YamlString(*value)) : "";
}

// An ancestor is what the model itself was made of: nothing says how, so the relation stays open.
std::string BaseModel(const SourceFacts& source) {
  if (source.hub_name) {
    return Member("base_model", source.hub_name) + "base_model_relation: quantized\n";
  }
  if (source.ancestors.empty()) return "";
  std::string text = "base_model:\n";
  for (const std::string& name : source.ancestors) text += fmt::format("- {}\n", YamlString(name));
  return text;
}

// A data set as load_dataset() of the package datasets takes it: one of the hub, or the loader of
// a file.
std::string DatasetBlock(const RunReport::Evaluation& evaluation) {
  const std::string& dataset = evaluation.dataset;
  const NamedDataset* named = FindNamedDataset(dataset);
  std::string name = dataset == kBuiltinDataset ? "built-in corpus of narrow" : dataset;
  const bool lines = dataset.ends_with(".jsonl") || dataset.ends_with(".jsonl.zst");
  std::string type = lines ? "json" : "text";
  std::string more;
  if (named != nullptr) {
    name = named->hub.title;
    type = named->hub.repository;
    if (!named->hub.config.empty()) more += fmt::format("      config: {}\n", named->hub.config);
    more += fmt::format("      split: {}\n", named->hub.split);
  }
  if (!evaluation.source.empty()) {  // "org/name at COMMIT"
    type = evaluation.source.substr(0, evaluation.source.find(' '));
    more += fmt::format("      revision: {}\n",
                        YamlString(evaluation.source.substr(evaluation.source.rfind(' ') + 1)));
  }
  return fmt::format("      name: {}\n      type: {}\n{}", YamlString(name), type, more);
}

std::string Metric(std::string_view type, std::string_view name, double value) {
  if (!std::isfinite(value)) return "";
  return fmt::format("    - type: {}\n      name: {}\n      value: {:.6f}\n", type,
                     YamlString(name), value);
}

std::string ModelIndex(const RunReport& report, const std::string& output_name) {
  if (!report.evaluation) return "";
  const DivergenceSummary& deployed = report.evaluation->deployed;
  const std::string metrics =
      Metric("perplexity",
             fmt::format("Perplexity as vLLM runs it ({})", DescribeEvaluation(*report.evaluation)),
             deployed.perplexity) +
      Metric("kl_divergence", "KL divergence from the original, nats per token", deployed.kl.mean) +
      Metric("top1_agreement", "Share of tokens whose most probable successor is the original's",
             deployed.top1_agreement.mean);
  if (metrics.empty()) return "";
  return fmt::format(
      "model-index:\n- name: {}\n  results:\n  - task:\n      type: text-generation\n"
      "    dataset:\n{}    metrics:\n{}",
      YamlString(output_name), DatasetBlock(*report.evaluation), metrics);
}

}  // namespace

std::string RenderCardMetadata(const RunReport& report, const SourceFacts& source,
                               const std::string& output_name) {
  return "---\n" + BaseModel(source) + Member("license", source.license) +
         Member("license_name", source.license_name) + Member("license_link", source.license_link) +
         fmt::format("library_name: vllm\npipeline_tag: text-generation\ntags:\n- {}\n- vllm\n",
                     report.strategy->is_data ? report.strategy->export_format : "fp8") +
         ModelIndex(report, output_name) + "---\n";
}

}  // namespace narrow
