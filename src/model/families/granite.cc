// Source: transformers 5, models/granite; vLLM 0.32, model_executor/models/granite.py.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "GraniteForCausalLM",
                                       .name = "Granite",
                                       .max_positions = 2048,
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias,
                                       .mlp_bias = kMlpBias};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  result.embedding_scale = ReadFactor(config, "embedding_multiplier", what, 1.0);
  result.score_scale = ReadFactor(config, "attention_multiplier", what, 1.0);
  result.residual_scale = ReadFactor(config, "residual_multiplier", what, 1.0);
  result.logit_scale = 1.0f / ReadFactor(config, "logits_scaling", what, 1.0);
  return result;
}

}  // namespace

ModelFamily GraniteFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "granite",
          .description = "Granite 3",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig};
}

}  // namespace narrow
