// Attention and MLP side by side behind one norm; in the second generation layers with a window
// rotate and the others do not.
// Source: transformers 5.19, models/cohere and models/cohere2; vLLM 0.32, commandr.py.
#include "base/error.h"
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults Defaults(std::string_view architecture, std::string_view name) {
  return {.architecture = architecture,
          .name = name,
          .max_positions = 8192,
          .norm_epsilon = 1e-5,
          .tied = true,
          .epsilon = "layer_norm_eps"};
}
constexpr DecoderDefaults k1 = Defaults("CohereForCausalLM", "Cohere");
constexpr DecoderDefaults k2 = Defaults("Cohere2ForCausalLM", "Cohere 2");
constexpr double kLogitScale = 0.0625;
constexpr int64_t kPeriod = 4;
constexpr int64_t kWindow = 4096;

DecoderConfig Shapes(const Json& config, std::string_view what, const DecoderDefaults& defaults) {
  DecoderConfig result = ReadShapes(config, what, defaults);
  if (OptionalBool(config, "attention_bias", what).value_or(false)) {
    result.query_key_value_bias = result.attention_output_bias = Bias::kPresent;
  }
  return result;
}

DecoderConfig Common(const Json& config, std::string_view what, const DecoderDefaults& defaults) {
  if (OptionalBool(config, "use_qk_norm", what).value_or(false)) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"use_qk_norm\" is true: norms of q and k with a weight for each head are not "
         "supported; expected false",
         what);
  }
  DecoderConfig result = Shapes(config, what, defaults);
  ReadArithmetic(config, what, defaults, result);
  result.logit_scale =
      static_cast<float>(OptionalNumber(config, "logit_scale", what).value_or(kLogitScale));
  return result;
}

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  return Shapes(config, what, k1);
}
DecoderConfig ParseShapes2(const Json& config, std::string_view what) {
  return Shapes(config, what, k2);
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  return Common(config, what, k1);
}

DecoderConfig ParseConfig2(const Json& config, std::string_view what) {
  DecoderConfig result = Common(config, what, k2);
  const int64_t period = OptionalInt(config, "sliding_window_pattern", what).value_or(kPeriod);
  if (period < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: \"sliding_window_pattern\" is {}, expected 1 or more", what,
         period);
  }
  ReadWindows(
      config, what, kWindow, [=](int64_t layer) { return (layer + 1) % period != 0; }, result);
  for (const int64_t window : result.windows) result.rotated.push_back(window != 0);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  spec.Norm(NormPlace::kBeforeAttention)->kind = NormSpec::Kind::kLayer;
  spec.Norm(NormPlace::kBeforeMlp).reset();
  spec.mlp_input = LayerSpec::MlpInput::kAttention;
  if (spec.attention.rotary) spec.attention.rotary->pairs = RotaryPairs::kInterleaved;
  return spec;
}

ModelSpec Model(const DecoderConfig& config) {
  ModelSpec spec = DecoderModel(config);
  spec.final_norm.kind = NormSpec::Kind::kLayer;
  return spec;
}

}  // namespace

ModelFamily CohereFamily() {
  return {"CohereForCausalLM", "cohere", "Command R", &ParseShapes,
          &ParseConfig,        &Layer,   &Model,      &IsRotaryTable};
}

ModelFamily Cohere2Family() {
  return {"Cohere2ForCausalLM",
          "cohere2",
          "Command R7B, Command A",
          &ParseShapes2,
          &ParseConfig2,
          &Layer,
          &Model,
          &IsRotaryTable};
}

}  // namespace narrow
