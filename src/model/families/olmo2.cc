// Source: transformers 5, models/olmo2 and models/olmo3, through which vLLM 0.32 runs them, too.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Olmo2ForCausalLM",
                                       .name = "OLMo 2",
                                       .max_positions = 2048,
                                       .norm_epsilon = 1e-5};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  result.query_key_value_bias = ReadBias(config, "attention_bias", what, false);
  result.attention_output_bias = result.query_key_value_bias;
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  return result;
}

// The norms of Q and K take the whole width together.
LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormAfterBlocks(config, layer, spec);
  NormHeads(config, "q_norm", "k_norm", spec);
  spec.Norm(NormPlace::kQuery)->size = config.query_width();
  spec.Norm(NormPlace::kKey)->size = config.key_value_width();
  return spec;
}

constexpr DecoderDefaults kOlmo3 = {.architecture = "Olmo3ForCausalLM",
                                    .name = "OLMo 3",
                                    .max_positions = 2048,
                                    .norm_epsilon = 1e-5,
                                    .theta = 500000.0,
                                    .rotations = DecoderDefaults::Rotations::kByLayer};

DecoderConfig ParseOlmo3Shapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kOlmo3);
  result.query_key_value_bias = ReadBias(config, "attention_bias", what, false);
  result.attention_output_bias = result.query_key_value_bias;
  return result;
}

DecoderConfig ParseOlmo3(const Json& config, std::string_view what) {
  DecoderConfig result = ParseOlmo3Shapes(config, what);
  ReadArithmetic(config, what, kOlmo3, result);
  ReadWindows(
      config, what, 4096, [](int64_t layer) { return (layer + 1) % 4 != 0; }, result);
  return result;
}

}  // namespace

ModelFamily Olmo2Family() {
  return {"Olmo2ForCausalLM",
          "olmo2",
          "OLMo 2",
          &ParseShapes,
          &ParseConfig,
          &Layer,
          &DecoderModel,
          &IsRotaryTable,
          false,
          ModelFamily::CacheNames::kOfAttention};
}

ModelFamily Olmo3Family() {
  return {"Olmo3ForCausalLM",
          "olmo3",
          "OLMo 3",
          &ParseOlmo3Shapes,
          &ParseOlmo3,
          &Layer,
          &DecoderModel,
          &IsRotaryTable,
          false,
          ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
