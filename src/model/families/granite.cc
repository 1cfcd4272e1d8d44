// Source: transformers 5, models/granite; vLLM 0.32, model_executor/models/granite.py.
#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "GraniteForCausalLM",
                                       .name = "Granite",
                                       .max_positions = 2048,
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias,
                                       .mlp_bias = kMlpBias};

constexpr DecoderDefaults kMoe = {.architecture = "GraniteMoeForCausalLM",
                                  .name = "Granite-MoE",
                                  .max_positions = 2048,
                                  .query_key_value_bias = kAttentionBias,
                                  .attention_output_bias = kAttentionBias};

void ReadMultipliers(const Json& config, std::string_view what, DecoderConfig& result) {
  result.embedding_scale = ReadFactor(config, "embedding_multiplier", what, 1.0);
  result.score_scale = ReadFactor(config, "attention_multiplier", what, 1.0);
  result.residual_scale = ReadFactor(config, "residual_multiplier", what, 1.0);
  result.logit_scale = 1.0f / ReadFactor(config, "logits_scaling", what, 1.0);
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  ReadMultipliers(config, what, result);
  return result;
}

DecoderConfig ShapesOfMoe(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kMoe);
  ReadExperts(config, what,
              {.count = "num_local_experts",
               .width = "intermediate_size",
               .absent_count = 8,
               .absent_per_token = 2},
              result);
  result.experts.routing.among = Routing::Among::kChosen;
  return result;
}

DecoderConfig ParseMoe(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfMoe(config, what);
  ReadArithmetic(config, what, kMoe, result);
  ReadMultipliers(config, what, result);
  return result;
}

// Quantized, each expert has the names that vLLM's loader of experts knows.
LayerSpec LayerOfMoe(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  PutExperts(config, layer,
             {.module = "block_sparse_moe.experts",
              .router = "block_sparse_moe.router.layer",
              .all_gate_up = "block_sparse_moe.input_linear.weight",
              .all_down = "block_sparse_moe.output_linear.weight"},
             spec);
  return spec;
}

}  // namespace

ModelFamily GraniteFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "granite",
          .description = "Granite 3",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig};
}

ModelFamily GraniteMoeFamily() {
  return {.architecture = kMoe.architecture,
          .model_type = "granitemoe",
          .description = "Granite 3 MoE",
          .parse_shapes = &ShapesOfMoe,
          .parse_config = &ParseMoe,
          .layer = &LayerOfMoe};
}

}  // namespace narrow
