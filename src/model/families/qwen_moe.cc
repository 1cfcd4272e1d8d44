// Source: transformers 5, models/qwen2_moe and models/qwen3_moe; vLLM 0.32,
// model_executor/models/qwen2_moe.py and qwen3_moe.py.
#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kQwen2 = {
    .architecture = "Qwen2MoeForCausalLM",
    .name = "Qwen2-MoE",
    .max_positions = 32768,
    .key_value_heads = 16,
    .query_key_value_bias = {.key = "qkv_bias", .absent = Bias::kPresent}};
constexpr DecoderDefaults kQwen3 = {.architecture = "Qwen3MoeForCausalLM",
                                    .name = "Qwen3-MoE",
                                    .max_positions = 32768,
                                    .key_value_heads = 4,
                                    .query_key_value_bias = kAttentionBias,
                                    .attention_output_bias = kAttentionBias};

DecoderConfig Shapes(const Json& config, std::string_view what, const DecoderDefaults& family,
                     std::string_view shared_width) {
  DecoderConfig result = ReadShapes(config, what, family);
  ReadExperts(
      config, what,
      {.count = "num_experts", .other_count = "num_local_experts", .shared_width = shared_width},
      result);
  result.experts.routing.renormalized =
      OptionalBool(config, "norm_topk_prob", what).value_or(false);
  ReadSparseLayers(config, what, result);
  return result;
}

DecoderConfig ShapesOfQwen2(const Json& config, std::string_view what) {
  return Shapes(config, what, kQwen2, "shared_expert_intermediate_size");
}
DecoderConfig ShapesOfQwen3(const Json& config, std::string_view what) {
  return Shapes(config, what, kQwen3, "");
}

// transformers gives the window to some layers, vLLM to all or none.
void RefuseWindow(const Json& config, std::string_view what) {
  if (!OptionalBool(config, "use_sliding_window", what).value_or(false)) return;
  Fail(ErrorCode::kUnsupported,
       "{}: \"use_sliding_window\" is true: attention here sees all tokens; expected false", what);
}

DecoderConfig ParseQwen2(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfQwen2(config, what);
  ReadArithmetic(config, what, kQwen2, result);
  RefuseWindow(config, what);
  return result;
}
DecoderConfig ParseQwen3(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfQwen3(config, what);
  ReadArithmetic(config, what, kQwen3, result);
  RefuseWindow(config, what);
  return result;
}

LayerSpec LayerOfQwen2(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  PutExperts(config, layer, {.shared = "mlp.shared_expert", .token_gate = "mlp.shared_expert_gate"},
             spec);
  return spec;
}
LayerSpec LayerOfQwen3(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormHeads(config, "q_norm", "k_norm", spec);
  PutExperts(config, layer, {}, spec);
  return spec;
}

}  // namespace

ModelFamily Qwen2MoeFamily() {
  return {.architecture = kQwen2.architecture,
          .model_type = "qwen2_moe",
          .description = "Qwen1.5 and Qwen2 MoE",
          .parse_shapes = &ShapesOfQwen2,
          .parse_config = &ParseQwen2,
          .layer = &LayerOfQwen2,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

ModelFamily Qwen3MoeFamily() {
  return {.architecture = kQwen3.architecture,
          .model_type = "qwen3_moe",
          .description = "Qwen3 MoE",
          .parse_shapes = &ShapesOfQwen3,
          .parse_config = &ParseQwen3,
          .layer = &LayerOfQwen3};
}

}  // namespace narrow
