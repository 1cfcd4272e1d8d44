// Source: transformers 5, models/olmo2 and models/olmo3, through which vLLM 0.32 runs them, too.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kOlmo2 = {.architecture = "Olmo2ForCausalLM",
                                    .name = "OLMo 2",
                                    .max_positions = 2048,
                                    .norm_epsilon = 1e-5,
                                    .query_key_value_bias = kAttentionBias,
                                    .attention_output_bias = kAttentionBias};

constexpr DecoderDefaults kOlmo3 = {.architecture = "Olmo3ForCausalLM",
                                    .name = "OLMo 3",
                                    .max_positions = 2048,
                                    .norm_epsilon = 1e-5,
                                    .theta = 500000.0,
                                    .query_key_value_bias = kAttentionBias,
                                    .attention_output_bias = kAttentionBias,
                                    .rotations = DecoderDefaults::Rotations::kByLayer};

DecoderConfig ParseOlmo3(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kOlmo3);
  const auto slides = [](int64_t layer) { return (layer + 1) % 4 != 0; };
  ReadWindows(config, what, 4096, slides, result);
  return result;
}

// The norms of Q and K take the whole width together.
LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormAfterBlocks(config, spec);
  NormHeads(config, "q_norm", "k_norm", spec);
  spec.Norm(NormPlace::kQuery)->size = config.query_width();
  spec.Norm(NormPlace::kKey)->size = config.key_value_width();
  return spec;
}

}  // namespace

ModelFamily Olmo2Family() {
  return {.architecture = kOlmo2.architecture,
          .model_type = "olmo2",
          .description = "OLMo 2",
          .parse_shapes = &ShapesOf<kOlmo2>,
          .parse_config = &ConfigOf<kOlmo2>,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

ModelFamily Olmo3Family() {
  return {.architecture = kOlmo3.architecture,
          .model_type = "olmo3",
          .description = "OLMo 3",
          .parse_shapes = &ShapesOf<kOlmo3>,
          .parse_config = &ParseOlmo3,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
