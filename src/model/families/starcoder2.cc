// Source: transformers 5.19, models/starcoder2, through which vLLM 0.32 runs it, too.
#include <string>

#include "base/error.h"
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Starcoder2ForCausalLM",
                                       .name = "StarCoder2",
                                       .max_positions = 4096,
                                       .key_value_heads = 2,
                                       .norm_epsilon = 1e-5,
                                       .tied = true,
                                       .epsilon = "norm_epsilon",
                                       .activation = Activation::kGeluTanh};

NormSpec NormOf(const DecoderConfig& config, const std::string& module) {
  NormSpec norm = DecoderNorm(config, module);
  norm.kind = NormSpec::Kind::kLayer;
  norm.bias = module + ".bias";
  return norm;
}

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  const bool biased = OptionalBool(config, "use_bias", what).value_or(true);
  result.query_key_value_bias = result.attention_output_bias = result.mlp_bias =
      biased ? Bias::kPresent : Bias::kNone;
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  const int64_t window = OptionalInt(config, "sliding_window", what).value_or(0);
  if (window < 0) {
    Fail(ErrorCode::kCorruptInput, "{}: \"sliding_window\" is {}, expected 1 or more, or null",
         what, window);
  }
  result.windows.assign(static_cast<std::size_t>(result.layers), window);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  LeaveOutGate(spec, "c_fc", "c_proj");
  const std::string prefix = LayerPrefix(spec);
  spec.Norm(NormPlace::kBeforeAttention) = NormOf(config, prefix + "input_layernorm");
  spec.Norm(NormPlace::kBeforeMlp) = NormOf(config, prefix + "post_attention_layernorm");
  return spec;
}

ModelSpec Model(const DecoderConfig& config) {
  ModelSpec spec = DecoderModel(config);
  spec.final_norm = NormOf(config, config.names.body + "norm");
  return spec;
}

}  // namespace

ModelFamily Starcoder2Family() {
  return {"Starcoder2ForCausalLM",
          "starcoder2",
          "StarCoder2",
          &ParseShapes,
          &ParseConfig,
          &Layer,
          &Model,
          &IsRotaryTable,
          false,
          ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
