#include "base/error.h"
#include "io/json.h"
#include "report/report.h"
#include "text/text_format.h"

namespace narrow {
namespace {

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

template <typename Record>
Json ArrayOf(const std::vector<Record>& records, Json (*render)(const Record&)) {
  Json array = Json::array();
  for (const Record& record : records) array.push_back(render(record));
  return array;
}

Json StrategyJson(const RunReport::Strategy& strategy) {
  Json json = Json::object();
  json["scheme"] = strategy.scheme;
  json["export_format"] = strategy.export_format;
  json["kv_cache_dtype"] = nullptr;
  if (strategy.kv_cache == KvCacheQuantization::kFp8) json["kv_cache_dtype"] = "fp8";
  json["min_kv_scale"] = strategy.min_kv_scale;
  json["weight_merge_groups"] = OrNull(strategy.weight_merge_groups);
  json["excluded_linears"] = strategy.excluded_linears;
  json["rounding"] = strategy.rounding;
  json["hessian_block_columns"] = strategy.hessian_block_columns;
  json["head_basis"] = strategy.head_basis;
  return json;
}

Json CalibrationJson(const RunReport::Calibration& calibration) {
  Json json = Json::object();
  json["dataset"] = calibration.dataset;
  json["samples"] = calibration.samples;
  json["samples_asked"] = calibration.samples_asked;
  json["empty_documents"] = calibration.empty_documents;
  json["tokens"] = calibration.tokens;
  json["notice"] = OrNull(calibration.notice);
  return json;
}

Json EstimateJson(const RunReport::Estimate& estimate) {
  Json json = Json::object();
  json["mean"] = estimate.mean;
  json["standard_error"] = OrNull(estimate.standard_error);
  return json;
}

Json DivergenceJson(const RunReport::Divergence& divergence) {
  Json json = Json::object();
  json["verdict"] = divergence.verdict;
  json["nll_increase"] = EstimateJson(divergence.nll_increase);
  json["perplexity_change"] = EstimateJson(divergence.perplexity_change);
  json["kl"] = EstimateJson(divergence.kl);
  json["kl_median"] = divergence.kl_median;
  json["kl_99"] = divergence.kl_99;
  json["kl_999"] = divergence.kl_999;
  json["kl_maximum"] = divergence.kl_maximum;
  json["top1_agreement"] = EstimateJson(divergence.top1_agreement);
  json["top1_in_top5"] = EstimateJson(divergence.top1_in_top5);
  json["top5_overlap"] = EstimateJson(divergence.top5_overlap);
  json["probability_change"] = EstimateJson(divergence.probability_change);
  json["probability_change_rms"] = divergence.probability_change_rms;
  json["window_nll"] = divergence.window_nll;
  return json;
}

Json WorstTokenJson(const RunReport::WorstToken& token) {
  Json json = Json::object();
  json["window"] = token.window;
  json["position"] = token.position;
  json["token"] = token.token;
  json["context"] = token.context;
  json["nll_increase"] = token.nll_increase;
  json["kl"] = token.kl;
  return json;
}

// What `quantized` names is the network as deployed.
void AddNetworks(const RunReport::Evaluation& evaluation, Json* json) {
  (*json)["perplexity"] = {{"original", OrNull(evaluation.original_perplexity)},
                           {"quantized", nullptr},
                           {"deployed", nullptr},
                           {"pseudo", nullptr}};
  (*json)["kl"] = {{"deployed", nullptr}, {"pseudo", nullptr}};
  (*json)["divergence"] = {{"deployed", nullptr}, {"pseudo", nullptr}};
  (*json)["window_nll"] = {{"original", evaluation.original_window_nll},
                           {"quantized", Json::array()}};
  const auto add = [&](const char* name, const std::optional<RunReport::Divergence>& divergence) {
    if (!divergence) return;
    (*json)["perplexity"][name] = divergence->perplexity;
    (*json)["kl"][name] = divergence->kl.mean;
    (*json)["divergence"][name] = DivergenceJson(*divergence);
  };
  add("deployed", evaluation.deployed);
  add("pseudo", evaluation.pseudo);
  if (evaluation.deployed) {
    (*json)["perplexity"]["quantized"] = evaluation.deployed->perplexity;
    (*json)["window_nll"]["quantized"] = evaluation.deployed->window_nll;
  }
  (*json)["pseudo_is_deployed"] = evaluation.pseudo_is_deployed;
}

Json PartCostJson(const RunReport::PartCost& cost) {
  Json json = Json::object();
  json["part"] = cost.part;
  json["kl"] = EstimateJson(cost.kl);
  json["kl_added"] = EstimateJson(cost.kl_added);
  json["nll_increase"] = EstimateJson(cost.nll_increase);
  json["nll_added"] = EstimateJson(cost.nll_added);
  return json;
}

Json AttributionJson(const std::optional<RunReport::Attribution>& attribution) {
  if (!attribution) return nullptr;
  Json json = Json::object();
  json["windows"] = attribution->windows;
  json["parts"] = ArrayOf(attribution->parts, &PartCostJson);
  return json;
}

Json EvaluationJson(const RunReport::Evaluation& evaluation) {
  Json json = Json::object();
  json["dataset"] = evaluation.dataset;
  json["windows"] = evaluation.windows;
  json["window_tokens"] = evaluation.window_tokens;
  json["shortest_window_tokens"] = evaluation.shortest_window_tokens;
  json["tokens"] = evaluation.tokens;
  AddNetworks(evaluation, &json);
  json["attribution"] = AttributionJson(evaluation.attribution);
  json["worst_tokens"] = ArrayOf(evaluation.worst_tokens, &WorstTokenJson);
  json["notice"] = OrNull(evaluation.notice);
  return json;
}

Json SecondsJson(const RunReport::Seconds& seconds) {
  Json json = Json::object();
  json["total"] = seconds.total;
  json["measuring"] = OrNull(seconds.measuring);
  json["calibration"] = OrNull(seconds.calibration);
  json["quantization"] = OrNull(seconds.quantization);
  json["evaluation"] = OrNull(seconds.evaluation);
  return json;
}

Json ComputeJson(const RunReport::Compute& compute) {
  Json json = Json::object();
  json["threads"] = compute.threads;
  json["dtype"] = compute.dtype;
  json["cpu_isa"] = compute.cpu_isa;
  return json;
}

void AddRange(const RunReport::Range& range, Json* json) {
  (*json)["amax"] = range.amax;
  (*json)["scale"] = range.scale;
}

void AddOutputError(const std::optional<RunReport::OutputError>& error, Json* json) {
  (*json)["output_error"] = nullptr;
  (*json)["nearest_output_error"] = nullptr;
  if (!error) return;
  (*json)["output_error"] = error->compensated;
  (*json)["nearest_output_error"] = error->nearest;
}

Json WeightJson(const RunReport::WeightRecord& record) {
  Json json = Json::object();
  json["name"] = record.name;
  AddRange(record.range, &json);
  json["saturated"] = record.saturated;
  json["elements"] = record.elements;
  json["layer"] = record.layer;
  AddOutputError(record.output_error, &json);
  return json;
}

Json InputJson(const RunReport::InputRecord& record) {
  Json json = Json::object();
  json["name"] = record.name;
  AddRange(record.range, &json);
  json["layer"] = record.layer;
  return json;
}

Json KvCacheJson(const RunReport::KvCacheRecord& record) {
  Json json = Json::object();
  json["name"] = record.name;
  AddRange(record.key, &json["k"]);
  AddRange(record.value, &json["v"]);
  return json;
}

Json LayerErrorJson(const std::optional<RunReport::LayerError>& error) {
  if (!error) return nullptr;
  Json json = Json::object();
  json["all"] = error->all;
  json["share"] = error->share;
  json["parts"] = Json::object();
  for (const RunReport::PartError& part : error->parts) {
    json["parts"][part.part] = {{"error", part.error}, {"share", part.share}};
  }
  return json;
}

Json KeptGroupJson(const RunReport::KeptGroup& group) {
  Json json = Json::object();
  json["layer"] = group.layer;
  json["linears"] = group.linears;
  json["error"] = group.error;
  json["share"] = group.share;
  json["extra_bytes"] = group.extra_bytes;
  return json;
}

Json KeptJson(const std::optional<RunReport::Kept>& kept) {
  if (!kept) return nullptr;
  Json json = Json::object();
  json["max_kl"] = OrNull(kept->max_kl);
  json["groups"] = ArrayOf(kept->groups, &KeptGroupJson);
  json["extra_bytes"] = kept->extra_bytes;
  json["checkpoint_bytes"] = kept->checkpoint_bytes;
  json["kl_without"] = OrNull(kept->kl_without);
  json["kl_predicted"] = OrNull(kept->kl_predicted);
  return json;
}

Json TrafficJson(const std::optional<Traffic>& traffic) {
  if (!traffic) return nullptr;
  Json json = Json::object();
  json["bytes"] = traffic->bytes;
  json["seconds"] = traffic->seconds;
  return json;
}

Json LayerJson(const RunReport::LayerRecord& record) {
  Json json = Json::object();
  json["elements"] = record.elements;
  json["saturated"] = record.saturated;
  AddOutputError(record.output_error, &json);
  json["error"] = LayerErrorJson(record.error);
  json["seconds"] = OrNull(record.seconds);
  json["loading_seconds"] = OrNull(record.loading_seconds);
  json["read"] = TrafficJson(record.read);
  json["written"] = TrafficJson(record.written);
  json["rss_bytes"] = OrNull(record.rss_bytes);
  return json;
}

}  // namespace

std::string RenderReportJson(const RunReport& report) {
  Json json = Json::object();
  json["command"] = ShellCommand(report.command_line);
  json["version"] = report.version;
  json["model"] = report.model;
  json["strategy"] = nullptr;
  if (report.strategy) json["strategy"] = StrategyJson(*report.strategy);
  json["calibration"] = nullptr;
  if (report.calibration) json["calibration"] = CalibrationJson(*report.calibration);
  json["evaluation"] = nullptr;
  if (report.evaluation) json["evaluation"] = EvaluationJson(*report.evaluation);
  json["kept"] = KeptJson(report.kept);
  json["seconds"] = SecondsJson(report.seconds);
  json["peak_rss_bytes"] = report.peak_rss_bytes;
  json["compute"] = ComputeJson(report.compute);
  json["warnings"] = report.warnings;
  json["weights"] = ArrayOf(report.weights, &WeightJson);
  json["inputs"] = ArrayOf(report.inputs, &InputJson);
  json["kv_cache"] = ArrayOf(report.kv_cache, &KvCacheJson);
  json["layers"] = ArrayOf(report.layers, &LayerJson);
  return RenderJsonFile(json);
}

}  // namespace narrow
