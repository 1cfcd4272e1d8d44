// Source: transformers 5, models/hunyuan_v1_dense, through which vLLM 0.32 runs it, too.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "HunYuanDenseV1ForCausalLM",
                                       .name = "HunYuan dense",
                                       .max_positions = 2048,
                                       .norm_epsilon = 1e-5,
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias};

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormHeads(config, "query_layernorm", "key_layernorm", spec);
  spec.attention.head_norms = AttentionBlock::HeadNorms::kAfterRotation;
  return spec;
}

}  // namespace

ModelFamily HunYuanDenseFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "hunyuan_v1_dense",
          .description = "HunYuan dense",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ConfigOf<kDefaults>,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
