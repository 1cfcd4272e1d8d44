// Source: transformers 5.19, models/nemotron; vLLM 0.32, model_executor/models/nemotron.py.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "NemotronForCausalLM",
                                       .name = "Nemotron",
                                       .max_positions = 4096,
                                       .norms = {NormSpec::Kind::kLayer, 1.0f, Bias::kPresent},
                                       .norm_epsilon = 1e-5,
                                       .epsilon = "norm_eps",
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias,
                                       .mlp_bias = kMlpBias,
                                       .activation = Activation::kSquaredRelu,
                                       .rotary_share = 0.5,
                                       .rotation = DecoderDefaults::Rotation::kPartial};

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  LeaveOutGate(spec, "up_proj", "down_proj");
  return spec;
}

}  // namespace

ModelFamily NemotronFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "nemotron",
          .description = "Nemotron and Minitron",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ConfigOf<kDefaults>,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
