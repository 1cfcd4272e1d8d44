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
  if (!calibration.source.empty()) json["source"] = calibration.source;
  json["samples"] = calibration.samples;
  json["samples_asked"] = calibration.samples_asked;
  json["empty_documents"] = calibration.empty_documents;
  json["tokens"] = calibration.tokens;
  json["notice"] = OrNull(calibration.notice);
  return json;
}

Json EstimateJson(const Estimate& estimate) {
  Json json = Json::object();
  json["mean"] = estimate.mean;
  json["standard_error"] = OrNull(estimate.standard_error);
  return json;
}

Json DivergenceJson(const DivergenceSummary& divergence, const std::string& verdict) {
  Json json = Json::object();
  json["verdict"] = verdict;
  json["nll_increase"] = EstimateJson(divergence.nll_increase);
  json["perplexity_change"] = EstimateJson(PerplexityChange(divergence));
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
  json["window_kl"] = divergence.window_kl;
  return json;
}

Json WorstTokenJson(const RunReport::WorstToken& token) {
  Json json = Json::object();
  json["window"] = token.outcome.window;
  json["position"] = token.position();
  json["token"] = token.token;
  json["context"] = token.context;
  json["nll_increase"] = token.outcome.nll_increase;
  json["kl"] = token.outcome.kl;
  return json;
}

void AddPseudo(const RunReport::Evaluation& evaluation, Json* json) {
  const DivergenceSummary& pseudo = evaluation.pseudo();
  (*json)["perplexity"]["pseudo"] = pseudo.perplexity;
  (*json)["kl"]["pseudo"] = pseudo.kl.mean;
  (*json)["divergence"]["pseudo"] = DivergenceJson(pseudo, Verdict(pseudo));
}

// What `quantized` names is the network as deployed.
void AddNetworks(const RunReport& report, Json* json) {
  const RunReport::Evaluation& evaluation = *report.evaluation;
  const DivergenceSummary& deployed = evaluation.deployed;
  (*json)["perplexity"] = {{"original", deployed.original_perplexity},
                           {"quantized", deployed.perplexity},
                           {"deployed", deployed.perplexity}};
  (*json)["kl"] = {{"deployed", deployed.kl.mean}};
  (*json)["divergence"] = {{"deployed", DivergenceJson(deployed, DeployedVerdict(report))}};
  // Of a checkpoint with scales of its own nothing but what is served is evaluated.
  if (!report.judged) AddPseudo(evaluation, json);
  if (evaluation.attention) {
    constexpr const char* kName = "deployed_bf16_attention";
    const DivergenceSummary* other = evaluation.dequantized();
    (*json)["attention"] = AttentionName(*evaluation.attention);
    (*json)["perplexity"][kName] = other != nullptr ? Json(other->perplexity) : Json(nullptr);
    (*json)["kl"][kName] = other != nullptr ? Json(other->kl.mean) : Json(nullptr);
    (*json)["divergence"][kName] =
        other != nullptr ? DivergenceJson(*other, Verdict(*other)) : Json(nullptr);
  }
  (*json)["window_nll"] = {{"original", deployed.original_window_nll},
                           {"quantized", deployed.window_nll}};
  if (!report.judged) (*json)["pseudo_is_deployed"] = &evaluation.pseudo() == &deployed;
}

Json PartCostJson(const PartCost& cost) {
  Json json = Json::object();
  json["part"] = PartId(cost.part);
  json["kl"] = EstimateJson(cost.kl);
  json["kl_added"] = EstimateJson(cost.kl_added);
  json["nll_increase"] = EstimateJson(cost.nll_increase);
  json["nll_added"] = EstimateJson(cost.nll_added);
  return json;
}

Json AttributionJson(const RunReport::Evaluation& evaluation) {
  if (evaluation.part_costs.empty()) return nullptr;
  Json json = Json::object();
  json["windows"] = evaluation.attributed_windows;
  json["parts"] = ArrayOf(evaluation.part_costs, &PartCostJson);
  return json;
}

Json EvaluationJson(const RunReport& report) {
  const RunReport::Evaluation& evaluation = *report.evaluation;
  Json json = Json::object();
  json["dataset"] = evaluation.dataset;
  if (!evaluation.source.empty()) json["source"] = evaluation.source;
  AddWindows(evaluation, json);
  AddNetworks(report, &json);
  json["attribution"] = AttributionJson(evaluation);
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
  for (const RunReport::Compute::Rank& rank : compute.ranks) {
    json["ranks"].push_back({{"host", rank.host},
                             {"seconds", rank.seconds},
                             {"waiting_seconds", rank.waiting_seconds}});
  }
  return json;
}

void AddRoundingError(const std::optional<RoundingError>& error, Json* json) {
  (*json)["output_error"] = error ? Json(error->compensated) : Json(nullptr);
  (*json)["nearest_output_error"] = error ? Json(error->nearest) : Json(nullptr);
}

Json WeightJson(const LinearFacts& linear, std::size_t layer) {
  Json json = Json::object();
  json["name"] = linear.module + ".weight";
  json["amax"] = linear.weight_amax;
  json["scale"] = linear.weight_scale > 0.0f ? Json(linear.weight_scale) : Json(nullptr);
  json["saturated"] = linear.saturated;
  json["elements"] = linear.elements;
  json["layer"] = layer;
  AddRoundingError(RoundingErrorOf(linear), &json);
  return json;
}

Json InputJson(const LinearFacts& linear, std::size_t layer) {
  Json json = Json::object();
  json["name"] = linear.module;
  json["amax"] = linear.input_amax;
  json["scale"] = linear.input_scale > 0.0f ? Json(linear.input_scale) : Json(nullptr);
  json["layer"] = layer;
  return json;
}

Json RangeJson(float amax, float scale) { return {{"amax", amax}, {"scale", scale}}; }

Json KvCacheJson(const CacheFacts& cache) {
  Json json = Json::object();
  json["name"] = cache.attention_module;
  json["q"] = RangeJson(cache.query_amax, cache.query_scale);
  json["k"] = RangeJson(cache.key_amax, cache.key_scale);
  json["v"] = RangeJson(cache.value_amax, cache.value_scale);
  return json;
}

Json ErrorJson(const std::optional<LayerShares>& shares) {
  if (!shares) return nullptr;
  Json json = Json::object();
  json["all"] = shares->all;
  json["share"] = shares->share;
  json["parts"] = Json::object();
  for (const PartShare& part : shares->parts) {
    json["parts"][std::string(part.id)] = {{"error", part.error}, {"share", part.share}};
  }
  return json;
}

Json KeptGroupJson(const LayerGroup& group) {
  Json json = Json::object();
  json["layer"] = group.layer;
  json["linears"] = group.modules;
  json["error"] = group.error;
  json["share"] = group.share;
  json["extra_bytes"] = group.extra_bytes;
  return json;
}

Json KeptJson(const std::optional<RunReport::Kept>& kept) {
  if (!kept) return nullptr;
  Json json = Json::object();
  json["max_kl"] = OrNull(kept->max_kl);
  json["groups"] = ArrayOf(kept->choice.groups, &KeptGroupJson);
  json["extra_bytes"] = kept->choice.extra_bytes();
  json["checkpoint_bytes"] = kept->checkpoint_bytes;
  json["kl_without"] = OrNull(kept->choice.kl_without);
  json["kl_predicted"] = OrNull(kept->choice.kl_predicted);
  return json;
}

Json TrafficJson(const Traffic& traffic) {
  return {{"bytes", traffic.bytes}, {"seconds", traffic.seconds}};
}

Json SecondsOfJson(const SecondsOf& seconds) {
  return {{"loading", seconds.loading},
          {"calibration", seconds.calibration},
          {"quantization", seconds.quantization},
          {"evaluation", seconds.evaluation},
          {"flops", seconds.flops}};
}

Json TimesJson(const std::optional<LayerTimes>& times) {
  if (!times) return nullptr;
  Json json = SecondsOfJson(times->whole);
  if (times->experts) json["experts"] = SecondsOfJson(*times->experts);
  return json;
}

Json ExpertsJson(const ExpertsFacts& experts) {
  return {{"name", experts.module},
          {"per_token", experts.per_token},
          {"calibration_tokens", experts.calibration_tokens},
          {"tokens", experts.tokens},
          {"route_agreement", OrNull(experts.route_agreement)}};
}

Json LayerJson(const RunReport::LayerRecord& record, const std::optional<LayerShares>& shares) {
  Json json = Json::object();
  int64_t elements = 0, saturated = 0;
  for (const LinearFacts& linear : record.facts.linears) {
    elements += linear.elements;
    saturated += linear.saturated;
  }
  json["elements"] = elements;
  json["saturated"] = saturated;
  AddRoundingError(RoundingErrorOf(record.facts), &json);
  json["error"] = ErrorJson(shares);
  if (record.facts.experts) json["experts"] = ExpertsJson(*record.facts.experts);
  const std::optional<LayerTimes>& times = record.times;
  json["seconds"] = times ? Json(times->seconds) : Json(nullptr);
  json["loading_seconds"] = times ? Json(times->loading_seconds) : Json(nullptr);
  json["times"] = TimesJson(times);
  json["read"] = times ? TrafficJson(times->read) : Json(nullptr);
  json["written"] = times ? TrafficJson(times->written) : Json(nullptr);
  json["rss_bytes"] = OrNull(record.rss_bytes);
  return json;
}

void AddLayers(const RunReport& report, Json* json) {
  for (const char* list : {"weights", "inputs", "kv_cache", "layers"}) {
    (*json)[list] = Json::array();
  }
  const std::vector<std::optional<LayerShares>> errors = OutputErrors(report);
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    const LayerFacts& facts = report.layers[i].facts;
    for (const LinearFacts& linear : facts.linears) {
      (*json)["weights"].push_back(WeightJson(linear, i));
      (*json)["inputs"].push_back(InputJson(linear, i));
    }
    if (facts.cache) (*json)["kv_cache"].push_back(KvCacheJson(*facts.cache));
    (*json)["layers"].push_back(LayerJson(report.layers[i], errors[i]));
  }
}

// What a comparison knows of the layers.
Json ComparedLayersJson(const RunReport& report) {
  Json layers = Json::array();
  const std::vector<std::optional<LayerShares>> errors = OutputErrors(report);
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    Json layer = {{"error", ErrorJson(errors[i])}};
    const std::optional<ExpertsFacts>& experts = report.layers[i].facts.experts;
    if (experts) {
      layer["experts"] = {{"name", experts->module},
                          {"route_agreement", OrNull(experts->route_agreement)}};
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace

void AddWindows(const EvaluatedWindows& evaluated, Json& json) {
  json["windows"] = evaluated.windows;
  if (evaluated.window_bos) json["window_bos"] = "always";
  if (!evaluated.rope_factors.empty()) json["rope_factors"] = evaluated.rope_factors;
  json["window_tokens"] = evaluated.window_tokens;
  json["shortest_window_tokens"] = evaluated.shortest_window_tokens;
  json["tokens"] = evaluated.tokens;
}

std::string RenderComparisonJson(const RunReport& report) {
  NARROW_CHECK(report.judged && report.evaluation);
  Json json = Json::object();
  json["command"] = ShellCommand(report.command_line);
  json["version"] = report.version;
  json["reference"] = report.model;
  json["model"] = {{"name", report.judged->name},
                   {"quant_method", report.judged->method},
                   {"kv_cache_dtype", report.judged->cached ? Json("fp8") : Json(nullptr)}};
  json["evaluation"] = EvaluationJson(report);
  json["layers"] = ComparedLayersJson(report);
  json["seconds"] = report.seconds.total;
  json["peak_rss_bytes"] = report.peak_rss_bytes;
  json["compute"] = ComputeJson(report.compute);
  json["warnings"] = report.warnings;
  return RenderJsonFile(json);
}

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
  if (report.evaluation) json["evaluation"] = EvaluationJson(report);
  json["kept"] = KeptJson(report.kept);
  json["seconds"] = SecondsJson(report.seconds);
  json["peak_rss_bytes"] = report.peak_rss_bytes;
  json["compute"] = ComputeJson(report.compute);
  json["warnings"] = report.warnings;
  AddLayers(report, &json);
  return RenderJsonFile(json);
}

}  // namespace narrow
