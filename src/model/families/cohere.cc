// Attention and MLP side by side behind one norm; in the second generation layers with a window
// rotate and the others do not.
// Source: transformers 5.19, models/cohere and models/cohere2; vLLM 0.32, commandr.py.
#include "base/error.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults Defaults(std::string_view architecture, std::string_view name) {
  return {.architecture = architecture,
          .name = name,
          .max_positions = 8192,
          .norms = {.kind = NormSpec::Kind::kLayer},
          .norm_epsilon = 1e-5,
          .epsilon = "layer_norm_eps",
          .tied = true,
          .query_key_value_bias = kAttentionBias,
          .attention_output_bias = kAttentionBias};
}
constexpr DecoderDefaults k1 = Defaults("CohereForCausalLM", "Cohere");
constexpr DecoderDefaults k2 = Defaults("Cohere2ForCausalLM", "Cohere 2");
constexpr double kLogitScale = 0.0625;
constexpr int64_t kPeriod = 4;
constexpr int64_t kWindow = 4096;

DecoderConfig Shapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, k1);
  result.head_norms = OptionalBool(config, "use_qk_norm", what).value_or(false);
  return result;
}

DecoderConfig Common(const Json& config, std::string_view what, const DecoderDefaults& defaults) {
  DecoderConfig result = ReadDecoder(config, what, defaults);
  result.rotary_pairs = RotaryPairs::kInterleaved;
  result.logit_scale =
      static_cast<float>(OptionalNumber(config, "logit_scale", what).value_or(kLogitScale));
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = Common(config, what, k1);
  result.head_norms = Shapes(config, what).head_norms;
  return result;
}

DecoderConfig ParseConfig2(const Json& config, std::string_view what) {
  DecoderConfig result = Common(config, what, k2);
  ReadPeriodicWindows(config, what, kWindow, kPeriod, result);
  for (const int64_t window : result.windows) result.rotated.push_back(window != 0);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  spec.Norm(NormPlace::kBeforeMlp).reset();
  spec.mlp_input = LayerSpec::MlpInput::kAttention;
  if (!config.head_norms) return spec;
  // Each head of q and of k has a weight of its own.
  NormHeads(config, "q_norm", "k_norm", spec);
  const AttentionHeads& heads = config.heads;
  for (const auto& [place, count] : {std::pair(NormPlace::kQuery, heads.query_heads),
                                     {NormPlace::kKey, heads.key_value_heads}}) {
    NormSpec& norm = *spec.Norm(place);
    norm.rows = count;
    norm.segment = heads.head_size;
    norm.size = count * heads.head_size;
  }
  return spec;
}

}  // namespace

ModelFamily CohereFamily() {
  return {.architecture = k1.architecture,
          .model_type = "cohere",
          .description = "Command R",
          .parse_shapes = &Shapes,
          .parse_config = &ParseConfig,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

ModelFamily Cohere2Family() {
  return {.architecture = k2.architecture,
          .model_type = "cohere2",
          .description = "Command R7B, Command A",
          .parse_shapes = &ShapesOf<k2>,
          .parse_config = &ParseConfig2,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
