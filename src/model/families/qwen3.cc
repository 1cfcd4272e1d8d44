// Source: transformers 5, models/qwen3; vLLM 0.32, model_executor/models/qwen3.py.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Qwen3ForCausalLM",
                                       .name = "Qwen3",
                                       .max_positions = 32768,
                                       .key_value_heads = 32,
                                       .head_size = 128};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  result.query_key_value_bias = ReadBias(config, "attention_bias", what, false);
  result.attention_output_bias = result.query_key_value_bias;
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  if (OptionalBool(config, "use_sliding_window", what).value_or(false)) {
    const int64_t first = OptionalInt(config, "max_window_layers", what).value_or(28);
    ReadWindows(
        config, what, 4096, [&](int64_t layer) { return layer >= first; }, result);
  }
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormHeads(config, "q_norm", "k_norm", spec);
  return spec;
}

}  // namespace

ModelFamily Qwen3Family() {
  return {"Qwen3ForCausalLM", "qwen3", "Qwen3",       &ParseShapes,
          &ParseConfig,       &Layer,  &DecoderModel, &IsRotaryTable};
}

}  // namespace narrow
