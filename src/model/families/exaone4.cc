// Source: transformers 5, models/exaone4; vLLM 0.32, model_executor/models/exaone4.py.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Exaone4ForCausalLM",
                                       .name = "EXAONE 4.0",
                                       .max_positions = 2048,
                                       .key_value_heads = 32,
                                       .norm_epsilon = 1e-5};

// Layers without a window do not rotate where others have one.
DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  const int64_t pattern = OptionalInt(config, "sliding_window_pattern", what).value_or(4);
  const auto slides = [&](int64_t layer) { return pattern > 0 && (layer + 1) % pattern != 0; };
  ReadWindows(config, what, 4096, slides, result);
  const bool windows = !config.contains("sliding_window") || !config["sliding_window"].is_null();
  for (int64_t layer = 0; windows && layer < result.layers; ++layer) {
    result.rotated.push_back(result.window(layer) > 0);
  }
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormAfterBlocks(config, spec);
  NormHeads(config, "q_norm", "k_norm", spec);
  return spec;
}

}  // namespace

ModelFamily Exaone4Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "exaone4",
          .description = "EXAONE 4.0",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
