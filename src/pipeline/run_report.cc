#include "pipeline/run_report.h"

namespace narrow {

void FillStrategy(const QuantizeRequest& request, const QuantizedCheckpointDescription& description,
                  RunReport& report) {
  RunReport::Strategy& strategy = report.strategy.emplace();
  strategy.scheme = request.scheme;
  strategy.export_format = request.export_format;
  strategy.kv_cache = description.kv_cache;
  strategy.min_kv_scale = description.min_kv_scale;
  strategy.weight_merge_groups = description.weight_merge_groups;
  strategy.excluded_linears = description.excluded_linears;
}

void FillCalibration(const TokenizedText& text, RunReport& report) {
  report.calibration =
      RunReport::Calibration{text.dataset, static_cast<int64_t>(text.stream.sequences.size()),
                             text.stream.size(), text.notice};
}

void FillEvaluation(const QuantizeRequest& request, const TokenizedText& text,
                    const PassResult& result, RunReport& report) {
  RunReport::Evaluation& evaluation = report.evaluation.emplace();
  evaluation.dataset = text.dataset;
  evaluation.windows = static_cast<int64_t>(text.stream.sequences.size());
  evaluation.window_tokens = request.evaluation->window_tokens;
  evaluation.tokens = text.stream.size();
  evaluation.perplexity = {result.deployed->original_perplexity, result.deployed->perplexity};
  evaluation.window_nll = {result.stored_window_nll, result.deployed->window_nll};
  evaluation.notice = text.notice;
}

void FillTensors(const PassResult& result, RunReport& report) {
  for (const LayerFacts& layer : result.layers) {
    for (const LinearFacts& linear : layer.linears) {
      report.weights.push_back({linear.module + ".weight",
                                {linear.weight_amax, linear.weight_scale},
                                linear.saturated,
                                linear.elements});
      report.inputs.push_back({linear.module, {linear.input_amax, linear.input_scale}});
    }
    if (layer.cache) {
      report.kv_cache.push_back({layer.cache->attention_module,
                                 {layer.cache->key_amax, layer.cache->key_scale},
                                 {layer.cache->value_amax, layer.cache->value_scale}});
    }
  }
}

}  // namespace narrow
