#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "LlamaForCausalLM",
                                       .name = "Llama",
                                       .max_positions = 2048,
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias,
                                       .mlp_bias = kMlpBias};

}  // namespace

ModelFamily LlamaFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "llama",
          .description = "Llama 2, 3, 3.1 and 3.2, SmolLM2 and other Llama layouts",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ConfigOf<kDefaults>};
}

}  // namespace narrow
