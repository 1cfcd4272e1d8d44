// Source: transformers 5.19, models/nemotron; vLLM 0.32, model_executor/models/nemotron.py.
#include <string>

#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "NemotronForCausalLM",
                                       .name = "Nemotron",
                                       .max_positions = 4096,
                                       .norm_epsilon = 1e-5,
                                       .epsilon = "norm_eps",
                                       .activation = Activation::kSquaredRelu,
                                       .rotary_share = 0.5,
                                       .rotation = DecoderDefaults::Rotation::kPartial};

NormSpec NormOf(const DecoderConfig& config, const std::string& module) {
  NormSpec norm = DecoderNorm(config, module);
  norm.kind = NormSpec::Kind::kLayer;
  norm.offset = 1.0f;
  norm.bias = module + ".bias";
  return norm;
}

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  const auto bias = [&](std::string_view key) {
    return OptionalBool(config, key, what).value_or(false) ? Bias::kPresent : Bias::kNone;
  };
  result.query_key_value_bias = result.attention_output_bias = bias("attention_bias");
  result.mlp_bias = bias("mlp_bias");
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  LeaveOutGate(spec, "up_proj", "down_proj");
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

ModelFamily NemotronFamily() {
  return {"NemotronForCausalLM",
          "nemotron",
          "Nemotron and Minitron",
          &ParseShapes,
          &ParseConfig,
          &Layer,
          &Model,
          &IsRotaryTable};
}

}  // namespace narrow
