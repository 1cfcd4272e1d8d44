// Source: transformers 5, models/qwen3; vLLM 0.32, model_executor/models/qwen3.py.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Qwen3ForCausalLM",
                                       .name = "Qwen3",
                                       .max_positions = 32768,
                                       .key_value_heads = 32,
                                       .head_size = 128,
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  if (OptionalBool(config, "use_sliding_window", what).value_or(false)) {
    const int64_t first = OptionalInt(config, "max_window_layers", what).value_or(28);
    const auto slides = [&](int64_t layer) { return layer >= first; };
    ReadWindows(config, what, 4096, slides, result);
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
  return {.architecture = kDefaults.architecture,
          .model_type = "qwen3",
          .description = "Qwen3",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig,
          .layer = &Layer};
}

}  // namespace narrow
