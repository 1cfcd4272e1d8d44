// Source: transformers 5, models/exaone4; vLLM 0.32, model_executor/models/exaone4.py.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Exaone4ForCausalLM",
                                       .name = "EXAONE 4.0",
                                       .max_positions = 2048,
                                       .key_value_heads = 32,
                                       .norm_epsilon = 1e-5};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  return ReadShapes(config, what, kDefaults);
}

// Layers without a window do not rotate where others have one.
DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  const int64_t pattern = OptionalInt(config, "sliding_window_pattern", what).value_or(4);
  ReadWindows(
      config, what, 4096, [&](int64_t layer) { return pattern > 0 && (layer + 1) % pattern != 0; },
      result);
  const bool windows = !config.contains("sliding_window") || !config["sliding_window"].is_null();
  for (int64_t layer = 0; windows && layer < result.layers; ++layer) {
    result.rotated.push_back(result.window(layer) > 0);
  }
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormAfterBlocks(config, layer, spec);
  NormHeads(config, "q_norm", "k_norm", spec);
  return spec;
}

}  // namespace

ModelFamily Exaone4Family() {
  return {"Exaone4ForCausalLM",
          "exaone4",
          "EXAONE 4.0",
          &ParseShapes,
          &ParseConfig,
          &Layer,
          &DecoderModel,
          &IsRotaryTable,
          false,
          ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
