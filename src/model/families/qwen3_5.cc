// Three of four layers have a Gated DeltaNet in the place of attention; the others gate its output,
// norm q and k, and rotate a quarter of each head. Norms multiply by 1 + weight. Qwen3-Next and the
// MoE models of Qwen3.5 have experts and a shared one, which a gate opens.
// Source: transformers 5.19, models/qwen3_next, qwen3_5 and qwen3_5_moe; vLLM 0.32,
// model_executor/models/qwen3_next.py and qwen3_5.py.
#include <algorithm>

#include "model/decoder_reading.h"
#include "model/delta_net_layout.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults Defaults(std::string_view architecture, std::string_view name,
                                   int64_t key_value_heads) {
  return {.architecture = architecture,
          .name = name,
          .max_positions = 32768,
          .query_heads = 16,
          .key_value_heads = key_value_heads,
          .head_size = 256,
          .norms = {.offset = 1.0f},
          .query_key_value_bias = kAttentionBias,
          .attention_output_bias = kAttentionBias,
          .rotary_share = 0.25,
          .rotation = DecoderDefaults::Rotation::kPartial};
}
constexpr DecoderDefaults kDense = Defaults("Qwen3_5ForCausalLM", "Qwen3.5", 4);
constexpr DecoderDefaults kMoe = Defaults("Qwen3_5MoeForCausalLM", "Qwen3.5 MoE", 2);
constexpr DecoderDefaults kNext = Defaults("Qwen3NextForCausalLM", "Qwen3-Next", 2);

DecoderConfig Shapes(const Json& config, std::string_view what, const DecoderDefaults& family,
                     DeltaNet::Layout layout) {
  DecoderConfig result = ReadShapes(config, what, family);
  ReadDeltaNet(config, what, {}, layout, result);
  return result;
}

void ReadSharedExperts(const Json& config, std::string_view what, DecoderConfig& result) {
  ReadExperts(config, what,
              {.count = "num_experts",
               .other_count = "num_local_experts",
               .shared_width = "shared_expert_intermediate_size"},
              result);
  result.experts.routing.renormalized = true;
}

DecoderConfig ShapesOfDense(const Json& config, std::string_view what) {
  return Shapes(config, what, kDense, DeltaNet::Layout::kByPart);
}

// There is no dense MLP, so its width may lack.
DecoderConfig ShapesOfMoe(const Json& config, std::string_view what) {
  Json read = config;
  if (!read.contains("intermediate_size")) {
    read["intermediate_size"] = RequiredInt(config, "moe_intermediate_size", what);
  }
  DecoderConfig result = Shapes(read, what, kMoe, DeltaNet::Layout::kByPart);
  ReadSharedExperts(config, what, result);
  return result;
}

DecoderConfig ShapesOfNext(const Json& config, std::string_view what) {
  DecoderConfig result = Shapes(config, what, kNext, DeltaNet::Layout::kByKeyHead);
  ReadSharedExperts(config, what, result);
  result.experts.routing.renormalized = OptionalBool(config, "norm_topk_prob", what).value_or(true);
  ReadSparseLayers(config, what, result);
  return result;
}

DecoderConfig ParseDense(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfDense(config, what);
  ReadArithmetic(config, what, kDense, result);
  return result;
}
DecoderConfig ParseMoe(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfMoe(config, what);
  ReadArithmetic(config, what, kMoe, result);
  return result;
}
DecoderConfig ParseNext(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfNext(config, what);
  ReadArithmetic(config, what, kNext, result);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  if (config.recurs(layer)) {
    PutDeltaNet(config, spec);
  } else {
    NormHeads(config, "q_norm", "k_norm", spec);
    GateAttention(spec);
  }
  PutExperts(config, layer, {.shared = "mlp.shared_expert", .token_gate = "mlp.shared_expert_gate"},
             spec);
  return spec;
}

}  // namespace

ModelFamily Qwen35Family() {
  return {.architecture = kDense.architecture,
          .model_type = "qwen3_5_text",
          .description = "Qwen3.5",
          .parse_shapes = &ShapesOfDense,
          .parse_config = &ParseDense,
          .layer = &Layer,
          .predicts_further = true};
}

ModelFamily Qwen35MoeFamily() {
  return {.architecture = kMoe.architecture,
          .model_type = "qwen3_5_moe_text",
          .description = "Qwen3.5 MoE",
          .parse_shapes = &ShapesOfMoe,
          .parse_config = &ParseMoe,
          .layer = &Layer,
          .predicts_further = true};
}

ModelFamily Qwen3NextFamily() {
  return {.architecture = kNext.architecture,
          .model_type = "qwen3_next",
          .description = "Qwen3-Next",
          .parse_shapes = &ShapesOfNext,
          .parse_config = &ParseNext,
          .layer = &Layer,
          .predicts_further = true};
}

}  // namespace narrow
