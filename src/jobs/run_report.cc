#include "jobs/run_report.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "schemes/scheme_presets.h"
#include "text/text_format.h"

namespace narrow {
namespace {

constexpr int64_t kContextTokens = 12;
constexpr std::size_t kContextBytes = 240;  // of hostile vocabularies, whose tokens may be books
constexpr std::size_t kTokenBytes = 120;

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
  if (request.schemes) {
    strategy.scheme = NamesOf(request.schemes->recipe);
    strategy.export_format = quantization.schemes->format->name;
    strategy.is_data = true;
    for (const LinearScheme& scheme : request.schemes->recipe.Schemes()) {
      const SchemePreset* preset = PresetOf(scheme);
      if (preset == nullptr) continue;
      strategy.summaries.push_back(fmt::format("{}: {}", preset->name, preset->summary));
    }
  }
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
                                              text.asked,         text.empty_documents,
                                              text.source};
}

RunReport::WorstToken DescribeHurtToken(const HurtToken& hurt, const TokenStream& stream,
                                        const Tokenizer* tokenizer) {
  NARROW_CHECK(hurt.window >= 0 && hurt.window < std::ssize(stream.sequences));
  const Sequence& window = stream.sequences[static_cast<std::size_t>(hurt.window)];
  RunReport::WorstToken worst;
  worst.outcome = hurt;
  const int64_t position = worst.position();
  NARROW_CHECK(hurt.position >= 0 && position < window.count);
  const auto text = [&](int64_t place) {
    const int32_t id = stream.tokens[static_cast<std::size_t>(window.first + place)];
    return tokenizer != nullptr ? tokenizer->TokenText(id) : fmt::format("{}", id);
  };
  std::string context;
  for (int64_t i = std::max<int64_t>(0, position - kContextTokens); i < position; ++i) {
    context += text(i) + (tokenizer != nullptr ? "" : " ");
  }
  if (context.size() > kContextBytes) context.erase(0, context.size() - kContextBytes);
  worst.context = ReadableUtf8(context);
  worst.token = ReadableUtf8(text(position).substr(0, kTokenBytes));
  return worst;
}

void FillEvaluation(std::optional<AttentionFigures> attention, const TokenizedText& text,
                    const Tokenizer* tokenizer, const PassResult& result, RunReport& report) {
  NARROW_CHECK(result.deployed.has_value());
  RunReport::Evaluation& evaluation = report.evaluation.emplace();
  evaluation.dataset = text.dataset;
  evaluation.source = text.source;
  static_cast<EvaluatedWindows&>(evaluation) = DescribeWindows(text);
  evaluation.deployed = *result.deployed;
  evaluation.own_scales = result.pseudo;
  evaluation.attention = attention;
  evaluation.bf16_attention = result.deployed_bf16_attention;
  for (const HurtToken& hurt : result.deployed->worst) {
    evaluation.worst_tokens.push_back(DescribeHurtToken(hurt, text.stream, tokenizer));
  }
  evaluation.attributed_windows = result.attributed_windows;
  evaluation.part_costs = result.part_costs;
  evaluation.notice = text.notice;
}

void FillLayers(const PassResult& result, RunReport& report) {
  const std::size_t layers = result.layers.size();
  for (std::size_t i = 0; i < layers; ++i) {
    report.layers.push_back({result.layers[i], OfLayer(result.layer_times, i, layers),
                             OfLayer(result.layer_rss_bytes, i, layers)});
    if (i < result.judged_layers.size()) report.layers.back().stages = result.judged_layers[i];
  }
}

void FillKept(const KeepRequest& request, const std::optional<KeptGroups>& kept,
              int64_t checkpoint_bytes, RunReport& report) {
  report.kept = RunReport::Kept{request.max_kl, kept.value_or(KeptGroups()), checkpoint_bytes};
  if (kept) report.seconds.measuring = kept->seconds;
}

}  // namespace narrow
