// Source: transformers 5, models/glm4_moe; vLLM 0.32, model_executor/models/glm4_moe.py.
#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Glm4MoeForCausalLM",
                                       .name = "GLM-4-MoE",
                                       .max_positions = 131072,
                                       .key_value_heads = 8,
                                       .norm_epsilon = 1e-5,
                                       .query_key_value_bias = kAttentionBias,
                                       .rotary_share = 0.5,
                                       .rotation = DecoderDefaults::Rotation::kPartial};

DecoderConfig Shapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  ReadExperts(config, what, {.count = "n_routed_experts", .other_count = "num_local_experts"},
              result);
  ReadSharedExperts(config, what, 1, result);
  ReadGroupedRouting(config, what, 1.0, result);
  const int64_t dense = OptionalInt(config, "first_k_dense_replace", what).value_or(1);
  ChooseExpertLayers([&](int64_t layer) { return layer >= dense; }, result);
  result.head_norms = OptionalBool(config, "use_qk_norm", what).value_or(false);
  result.prediction_layers = OptionalInt(config, "num_nextn_predict_layers", what).value_or(0);
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = Shapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  if (config.head_norms) NormHeads(config, "q_norm", "k_norm", spec);
  PutExperts(config, layer,
             {.shared = "mlp.shared_experts", .correction = "mlp.gate.e_score_correction_bias"},
             spec);
  return spec;
}

}  // namespace

ModelFamily Glm4MoeFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "glm4_moe",
          .description = "GLM-4.5 to 4.7",
          .parse_shapes = &Shapes,
          .parse_config = &ParseConfig,
          .layer = &Layer};
}

}  // namespace narrow
