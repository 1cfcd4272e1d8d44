#include "jobs/run_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "text/text_format.h"

namespace narrow {
namespace {

constexpr int64_t kContextTokens = 12;
constexpr std::size_t kContextBytes = 240;  // of hostile vocabularies, whose tokens may be books
constexpr std::size_t kTokenBytes = 120;

RunReport::Estimate Convert(const Estimate& estimate) {
  return {estimate.mean, estimate.standard_error};
}

// Perplexity is the exponential of the loss; to first order so is its error.
RunReport::Estimate PerplexityChange(const Estimate& nll_increase) {
  RunReport::Estimate change{std::expm1(nll_increase.mean), std::nullopt};
  if (nll_increase.standard_error) {
    change.standard_error = std::exp(nll_increase.mean) * *nll_increase.standard_error;
  }
  return change;
}

RunReport::Divergence Convert(const DivergenceSummary& summary) {
  RunReport::Divergence divergence;
  divergence.perplexity = summary.perplexity;
  divergence.window_nll = summary.window_nll;
  divergence.nll_increase = Convert(summary.nll_increase);
  divergence.perplexity_change = PerplexityChange(summary.nll_increase);
  divergence.kl = Convert(summary.kl);
  divergence.kl_median = summary.kl_median;
  divergence.kl_99 = summary.kl_99;
  divergence.kl_999 = summary.kl_999;
  divergence.kl_maximum = summary.kl_maximum;
  divergence.top1_agreement = Convert(summary.top1_agreement);
  divergence.top1_in_top5 = Convert(summary.top1_in_top5);
  divergence.top5_overlap = Convert(summary.top5_overlap);
  divergence.probability_change = Convert(summary.probability_change);
  divergence.probability_change_rms = summary.probability_change_rms;
  divergence.verdict = Verdict(summary);
  return divergence;
}

// Zeros stand for a linear that was rounded to nearest; so do they for one whose sampled inputs
// were all zero, of which there is nothing to show either.
std::optional<RunReport::OutputError> OutputErrorOf(const LinearFacts& linear) {
  if (linear.output_error == 0.0 && linear.nearest_output_error == 0.0) return std::nullopt;
  return RunReport::OutputError{linear.output_error, linear.nearest_output_error};
}

void AddToLayer(const RunReport::WeightRecord& weight, RunReport::LayerRecord& layer) {
  layer.elements += weight.elements;
  layer.saturated += weight.saturated;
  if (!weight.output_error) return;
  if (!layer.output_error) layer.output_error.emplace();
  layer.output_error->compensated += weight.output_error->compensated;
  layer.output_error->nearest += weight.output_error->nearest;
}

// A run that was continued measured its last layers only.
template <typename T>
std::optional<T> OfLayer(const std::vector<T>& measured, std::size_t layer, std::size_t layers) {
  const std::size_t before = layers - std::min(layers, measured.size());
  if (layer < before) return std::nullopt;
  return measured[layer - before];
}

}  // namespace

void FillStrategy(const QuantizeRequest& request, const LayerQuantizationOptions& quantization,
                  const QuantizedCheckpointDescription& description, RunReport& report) {
  RunReport::Strategy& strategy = report.strategy.emplace();
  strategy.scheme = request.scheme;
  strategy.export_format = request.export_format;
  strategy.kv_cache = description.kv_cache;
  strategy.min_kv_scale = description.min_kv_scale;
  strategy.weight_merge_groups = description.weight_merge_groups;
  strategy.excluded_linears = description.excluded_linears;
  if (quantization.head_basis == HeadBasis::kFitted) strategy.head_basis = "fitted";
  if (quantization.rounding == RoundingAlgorithm::kCompensated) {
    strategy.rounding = "gptq";
    strategy.hessian_block_columns = quantization.hessian_block_columns;
  }
}

void FillCalibration(const TokenizedText& text, RunReport& report) {
  report.calibration = RunReport::Calibration{text.dataset,       std::ssize(text.stream.sequences),
                                              text.stream.size(), text.notice,
                                              text.asked,         text.empty_documents};
}

RunReport::WorstToken DescribeHurtToken(const HurtToken& hurt, const TokenStream& stream,
                                        const Tokenizer* tokenizer) {
  NARROW_CHECK(hurt.window >= 0 && hurt.window < std::ssize(stream.sequences));
  const Sequence& window = stream.sequences[static_cast<std::size_t>(hurt.window)];
  RunReport::WorstToken worst;
  worst.window = hurt.window;
  worst.position = hurt.position + 1;  // the outcome at a token is the prediction of the next one
  NARROW_CHECK(hurt.position >= 0 && worst.position < window.count);
  worst.nll_increase = hurt.nll_increase;
  worst.kl = hurt.kl;
  const auto text = [&](int64_t position) {
    const int32_t id = stream.tokens[static_cast<std::size_t>(window.first + position)];
    return tokenizer != nullptr ? tokenizer->TokenText(id) : fmt::format("{}", id);
  };
  std::string context;
  for (int64_t i = std::max<int64_t>(0, worst.position - kContextTokens); i < worst.position; ++i) {
    context += text(i) + (tokenizer != nullptr ? "" : " ");
  }
  if (context.size() > kContextBytes) context.erase(0, context.size() - kContextBytes);
  worst.context = ReadableUtf8(context);
  worst.token = ReadableUtf8(text(worst.position).substr(0, kTokenBytes));
  return worst;
}

void FillEvaluation(const QuantizeRequest& request, const TokenizedText& text,
                    const Tokenizer* tokenizer, const PassResult& result, RunReport& report) {
  NARROW_CHECK(request.evaluation && result.deployed);
  RunReport::Evaluation& evaluation = report.evaluation.emplace();
  evaluation.dataset = text.dataset;
  evaluation.windows = static_cast<int64_t>(text.stream.sequences.size());
  evaluation.window_tokens = text.stream.longest();
  evaluation.shortest_window_tokens = text.stream.shortest();
  evaluation.tokens = text.stream.size();
  evaluation.original_perplexity = result.deployed->original_perplexity;
  evaluation.original_window_nll = result.stored_window_nll;
  evaluation.deployed = Convert(*result.deployed);
  evaluation.pseudo_is_deployed = !result.pseudo;
  evaluation.pseudo = result.pseudo ? Convert(*result.pseudo) : *evaluation.deployed;
  for (const HurtToken& hurt : result.deployed->worst) {
    evaluation.worst_tokens.push_back(DescribeHurtToken(hurt, text.stream, tokenizer));
  }
  evaluation.attribution = AttributionOf(result);
  evaluation.notice = text.notice;
}

void FillTensors(const PassResult& result, RunReport& report) {
  const std::size_t layers = result.layers.size();
  for (std::size_t i = 0; i < layers; ++i) {
    const LayerFacts& layer = result.layers[i];
    const auto number = static_cast<int64_t>(i);
    RunReport::LayerRecord& record = report.layers.emplace_back();
    if (const auto times = OfLayer(result.layer_times, i, layers)) {
      record.seconds = times->seconds;
      record.loading_seconds = times->loading_seconds;
      record.read = times->read;
      record.written = times->written;
    }
    record.rss_bytes = OfLayer(result.layer_rss_bytes, i, layers);
    for (const LinearFacts& linear : layer.linears) {
      report.weights.push_back({linear.module + ".weight",
                                {linear.weight_amax, linear.weight_scale},
                                linear.saturated,
                                linear.elements,
                                number,
                                OutputErrorOf(linear)});
      report.inputs.push_back({linear.module, {linear.input_amax, linear.input_scale}, number});
      AddToLayer(report.weights.back(), record);
    }
    if (layer.cache) {
      report.kv_cache.push_back({layer.cache->attention_module,
                                 {layer.cache->key_amax, layer.cache->key_scale},
                                 {layer.cache->value_amax, layer.cache->value_scale}});
    }
  }
  FillErrors(result.layers, report);
}

}  // namespace narrow
