#include "base/error.h"
#include "export/config.h"
#include "export/report.h"
#include "export/text_format.h"
#include "io/json.h"

namespace narrow {
namespace {

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
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
  return json;
}

Json CalibrationJson(const RunReport::Calibration& calibration) {
  Json json = Json::object();
  json["dataset"] = calibration.dataset;
  json["samples"] = calibration.samples;
  json["tokens"] = calibration.tokens;
  json["notice"] = OrNull(calibration.notice);
  return json;
}

Json EvaluationJson(const RunReport::Evaluation& evaluation) {
  Json json = Json::object();
  json["dataset"] = evaluation.dataset;
  json["windows"] = evaluation.windows;
  json["window_tokens"] = evaluation.window_tokens;
  json["tokens"] = evaluation.tokens;
  json["perplexity"]["original"] = OrNull(evaluation.perplexity.original);
  json["perplexity"]["quantized"] = OrNull(evaluation.perplexity.quantized);
  json["window_nll"]["original"] = evaluation.window_nll.original;
  json["window_nll"]["quantized"] = evaluation.window_nll.quantized;
  json["notice"] = OrNull(evaluation.notice);
  return json;
}

Json SecondsJson(const RunReport::Seconds& seconds) {
  Json json = Json::object();
  json["total"] = seconds.total;
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

Json WeightJson(const RunReport::WeightRecord& record) {
  Json json = Json::object();
  json["name"] = record.name;
  AddRange(record.range, &json);
  json["saturated"] = record.saturated;
  json["elements"] = record.elements;
  return json;
}

Json InputJson(const RunReport::InputRecord& record) {
  Json json = Json::object();
  json["name"] = record.name;
  AddRange(record.range, &json);
  return json;
}

Json KvCacheJson(const RunReport::KvCacheRecord& record) {
  Json json = Json::object();
  json["name"] = record.name;
  AddRange(record.key, &json["k"]);
  AddRange(record.value, &json["v"]);
  return json;
}

template <typename Record>
Json ArrayOf(const std::vector<Record>& records, Json (*render)(const Record&)) {
  Json array = Json::array();
  for (const Record& record : records) array.push_back(render(record));
  return array;
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
  json["seconds"] = SecondsJson(report.seconds);
  json["peak_rss_bytes"] = report.peak_rss_bytes;
  json["compute"] = ComputeJson(report.compute);
  json["warnings"] = report.warnings;
  json["weights"] = ArrayOf(report.weights, &WeightJson);
  json["inputs"] = ArrayOf(report.inputs, &InputJson);
  json["kv_cache"] = ArrayOf(report.kv_cache, &KvCacheJson);
  return RenderJsonFile(json);
}

}  // namespace narrow
