// Source: transformers 5, models/smollm3, through which vLLM 0.32 runs it, too.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "SmolLM3ForCausalLM",
                                       .name = "SmolLM3",
                                       .max_positions = 32768,
                                       .key_value_heads = 4,
                                       .theta = 2e6,
                                       .tied = true,
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias,
                                       .mlp_bias = kMlpBias};

// 1 for each layer that rotates; without that member every fourth does not.
std::vector<bool> RotatedLayers(const Json& config, std::string_view what, int64_t layers) {
  std::vector<bool> rotated;
  const Json* list = OptionalArray(config, "no_rope_layers", what);
  const int64_t interval = OptionalInt(config, "no_rope_layer_interval", what).value_or(4);
  if (list == nullptr && interval <= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: \"no_rope_layer_interval\" is {}, expected 1 or more", what,
         interval);
  }
  if (list != nullptr && std::ssize(*list) < layers) {
    Fail(ErrorCode::kCorruptInput, "{}: \"no_rope_layers\" has {} members, the model {} layers",
         what, std::ssize(*list), layers);
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    rotated.push_back(list == nullptr ? (layer + 1) % interval != 0
                                      : (*list)[static_cast<std::size_t>(layer)] != 0);
  }
  return rotated;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  result.rotated = RotatedLayers(config, what, result.layers);
  if (OptionalBool(config, "use_sliding_window", what).value_or(false)) {
    const auto slides = [&](int64_t layer) { return !result.rotates(layer); };
    ReadWindows(config, what, std::nullopt, slides, result);
  }
  return result;
}

}  // namespace

ModelFamily SmolLm3Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "smollm3",
          .description = "SmolLM3",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
