// Source: transformers 5, models/ministral3; vLLM 0.32, model_executor/models/mistral.py.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Ministral3ForCausalLM",
                                       .name = "Ministral 3",
                                       .max_positions = 262144,
                                       .key_value_heads = 8,
                                       .head_size = 128,
                                       .norm_epsilon = 1e-5};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  ReadWindows(config, what, std::nullopt, EveryLayer, result);
  const Json* rotation = OptionalObject(config, "rope_parameters", what);
  if (rotation == nullptr) rotation = OptionalObject(config, "rope_scaling", what);
  if (rotation != nullptr && OptionalNumber(*rotation, "llama_4_scaling_beta", what)) {
    result.temperature = {ReadFactor(*rotation, "llama_4_scaling_beta", what, 0.0),
                          RequiredNumber(*rotation, "original_max_position_embeddings", what)};
  }
  return result;
}

}  // namespace

ModelFamily Ministral3Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "ministral3",
          .description = "Ministral 3",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig};
}

}  // namespace narrow
