// Source: transformers 5, models/glm4; vLLM 0.32, model_executor/models/glm4.py. Stored fused:
// gate_up_proj.
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
                                       .query_key_value_bias = {"attention_bias", Bias::kPresent},
                                       .rotary_share = 0.5,
                                       .rotation = DecoderDefaults::Rotation::kPartial};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  result.rotary_pairs = RotaryPairs::kInterleaved;
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  const std::string prefix = LayerPrefix(spec);
  spec.Norm(NormPlace::kAfterAttention) = DecoderNorm(config, prefix + "post_self_attn_layernorm");
  spec.Norm(NormPlace::kAfterMlp) = DecoderNorm(config, prefix + "post_mlp_layernorm");
  StoreTogether(spec, LinearGroup::kGateUp, WeightRole::kGateUp, "gate_up_proj");
  return spec;
}

}  // namespace

ModelFamily Glm4Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "glm4",
          .description = "GLM-4-0414",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig,
          .layer = &Layer};
}

}  // namespace narrow
