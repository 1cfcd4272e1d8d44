// Source: transformers 5, models/glm4; vLLM 0.32, model_executor/models/glm4.py. Stored fused:
// gate_up_proj.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Glm4ForCausalLM",
                                       .name = "GLM-4",
                                       .max_positions = 131072,
                                       .key_value_heads = 2,
                                       .head_size = 128,
                                       .norm_epsilon = 1.5625e-7,
                                       .rotary_share = 0.5,
                                       .rotation = DecoderDefaults::Rotation::kPartial};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  result.query_key_value_bias = ReadBias(config, "attention_bias", what, true);
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  result.rotary_pairs = RotaryPairs::kInterleaved;
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  const std::string prefix = fmt::format("{}layers.{}.", config.names.body, layer);
  spec.Norm(NormPlace::kAfterAttention) = DecoderNorm(config, prefix + "post_self_attn_layernorm");
  spec.Norm(NormPlace::kAfterMlp) = DecoderNorm(config, prefix + "post_mlp_layernorm");
  StoreTogether(spec, LinearGroup::kGateUp, WeightRole::kGateUp, "gate_up_proj");
  return spec;
}

}  // namespace

ModelFamily Glm4Family() {
  return {"Glm4ForCausalLM", "glm4", "GLM-4-0414",  &ParseShapes,
          &ParseConfig,      &Layer, &DecoderModel, &IsRotaryTable};
}

}  // namespace narrow
