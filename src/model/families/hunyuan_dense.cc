// Source: transformers 5, models/hunyuan_v1_dense, through which vLLM 0.32 runs it, too.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "HunYuanDenseV1ForCausalLM",
                                       .name = "HunYuan dense",
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

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormHeads(config, "query_layernorm", "key_layernorm", spec);
  spec.attention.head_norms = AttentionBlock::HeadNorms::kAfterRotation;
  return spec;
}

}  // namespace

ModelFamily HunYuanDenseFamily() {
  return {"HunYuanDenseV1ForCausalLM",
          "hunyuan_v1_dense",
          "HunYuan dense",
          &ParseShapes,
          &ParseConfig,
          &Layer,
          &DecoderModel,
          &IsRotaryTable,
          false,
          ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
