// Latent attention; the first layers are dense, the others have a shared expert and routed ones,
// which tokens choose by groups. Kimi K2 is one of these. DeepSeek-V3.2 and GLM-5 have an indexer.
// Source: transformers 5.19, models/deepseek_v3, deepseek_v32 and glm_moe_dsa; vLLM 0.32,
// model_executor/models/deepseek_v2.py.
#include <cmath>
#include <string>

#include "base/error.h"
#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"
#include "model/latent_layout.h"

namespace narrow {
namespace {

constexpr DecoderDefaults Defaults(std::string_view architecture, std::string_view name,
                                   int64_t max_positions, double epsilon) {
  return {.architecture = architecture,
          .name = name,
          .max_positions = max_positions,
          .norm_epsilon = epsilon,
          .query_key_value_bias = kAttentionBias,
          .attention_output_bias = kAttentionBias};
}
constexpr DecoderDefaults kV3 = Defaults("DeepseekV3ForCausalLM", "DeepSeek-V3", 4096, 1e-6);
constexpr DecoderDefaults kV32 = Defaults("DeepseekV32ForCausalLM", "DeepSeek-V3.2", 163840, 1e-6);
constexpr DecoderDefaults kGlm5 = Defaults("GlmMoeDsaForCausalLM", "GLM-5", 202752, 1e-5);

// What transformers computes in one way alone, and vLLM as the member says.
void RefuseOther(const Json& config, std::string_view what, std::string_view key,
                 std::string_view only) {
  const auto value = OptionalString(config, key, what);
  if (!value || *value == only) return;
  Fail(ErrorCode::kUnsupported, "{}: \"{}\" {} is not supported; expected {}", what, key,
       Quoted(*value), only);
}

// Layers that "mlp_layer_types" calls sparse, or, without it, all but the first few.
void ReadExpertLayers(const Json& config, std::string_view what, DecoderConfig& result) {
  const int64_t dense = OptionalInt(config, "first_k_dense_replace", what).value_or(3);
  result.experts.layers =
      ReadLayerKinds(config, what, {.key = "mlp_layer_types", .kind = "sparse", .other = "dense"},
                     result.layers, [=](int64_t layer) { return layer >= dense; });
}

DecoderConfig Shapes(const Json& config, std::string_view what, const DecoderDefaults& family) {
  DecoderConfig result = ReadShapes(config, what, family);
  ReadExperts(config, what, {.count = "n_routed_experts", .other_count = "num_local_experts"},
              result);
  RefuseOther(config, what, "scoring_func", "sigmoid");
  RefuseOther(config, what, "topk_method", "noaux_tc");
  ReadGroupedRouting(config, what, 2.5, result);
  ReadSharedExperts(config, what, 1, result);
  ReadExpertLayers(config, what, result);
  ReadLatents(config, what, result);
  return result;
}

DecoderConfig Parse(const Json& config, std::string_view what, const DecoderDefaults& family,
                    DecoderConfig result) {
  ReadArithmetic(config, what, family, result);
  result.score_scale =
      YarnScoreFactor(config, what) / std::sqrt(static_cast<float>(result.heads.head_size));
  result.rotary_pairs = RotaryPairs::kInterleaved;
  return result;
}

DecoderConfig ShapesOfV3(const Json& config, std::string_view what) {
  return Shapes(config, what, kV3);
}
DecoderConfig ShapesOfV32(const Json& config, std::string_view what) {
  DecoderConfig result = Shapes(config, what, kV32);
  ReadIndexer(config, what, RotaryPairs::kHalves, result);
  return result;
}
DecoderConfig ShapesOfGlm5(const Json& config, std::string_view what) {
  DecoderConfig result = Shapes(config, what, kGlm5);
  ReadIndexer(config, what, RotaryPairs::kInterleaved, result);
  return result;
}

DecoderConfig ParseV3(const Json& config, std::string_view what) {
  DecoderConfig result = Parse(config, what, kV3, ShapesOfV3(config, what));
  if (!OptionalBool(config, "rope_interleave", what).value_or(true)) {
    result.rotary_pairs = RotaryPairs::kHalves;
  }
  return result;
}
DecoderConfig ParseV32(const Json& config, std::string_view what) {
  return Parse(config, what, kV32, ShapesOfV32(config, what));
}
DecoderConfig ParseGlm5(const Json& config, std::string_view what) {
  return Parse(config, what, kGlm5, ShapesOfGlm5(config, what));
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  PutLatents(config, spec);
  PutExperts(config, layer,
             {.shared = "mlp.shared_experts", .correction = "mlp.gate.e_score_correction_bias"},
             spec);
  return spec;
}

}  // namespace

ModelFamily DeepseekV3Family() {
  return {.architecture = kV3.architecture,
          .model_type = "deepseek_v3",
          .description = "DeepSeek-V3 and R1, Kimi K2",
          .parse_shapes = &ShapesOfV3,
          .parse_config = &ParseV3,
          .layer = &Layer,
          .predicts_further = true};
}

ModelFamily DeepseekV32Family() {
  return {.architecture = kV32.architecture,
          .model_type = "deepseek_v32",
          .description = "DeepSeek-V3.2",
          .parse_shapes = &ShapesOfV32,
          .parse_config = &ParseV32,
          .layer = &Layer,
          .predicts_further = true};
}

ModelFamily GlmMoeDsaFamily() {
  return {.architecture = kGlm5.architecture,
          .model_type = "glm_moe_dsa",
          .description = "GLM-5",
          .parse_shapes = &ShapesOfGlm5,
          .parse_config = &ParseGlm5,
          .layer = &Layer,
          .predicts_further = true};
}

}  // namespace narrow
