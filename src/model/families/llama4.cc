// Source: transformers 5, models/llama4; vLLM 0.32, model_executor/models/llama4.py.
#include <algorithm>

#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Llama4ForCausalLM",
                                       .name = "Llama 4",
                                       .max_positions = 131072,
                                       .key_value_heads = 8,
                                       .head_size = 128,
                                       .norm_epsilon = 1e-5,
                                       .theta = 500000.0,
                                       .query_key_value_bias = kAttentionBias,
                                       .attention_output_bias = kAttentionBias};

// Which layers have experts: "moe_layers", or every last of "interleave_moe_layer_step".
void ReadExpertLayers(const Json& config, std::string_view what, DecoderConfig& result) {
  const Json* named = OptionalArray(config, "moe_layers", what);
  const int64_t step = OptionalInt(config, "interleave_moe_layer_step", what).value_or(1);
  if (step < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: \"interleave_moe_layer_step\" is {}, expected 1 or more",
         what, step);
  }
  const auto has = [&](int64_t layer) {
    if (named != nullptr) return std::ranges::find(*named, Json(layer)) != named->end();
    return (layer + 1) % step == 0;
  };
  ChooseExpertLayers(has, result);
}

// "intermediate_size" is that of experts, the shared one among them; dense layers have another.
DecoderConfig Shapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  ReadExperts(config, what,
              {.count = "num_local_experts",
               .width = "intermediate_size",
               .shared_width = "intermediate_size",
               .absent_count = 16,
               .absent_per_token = 1},
              result);
  const auto dense = OptionalInt(config, "intermediate_size_mlp", what);
  result.intermediate = dense.value_or(16384);
  result.experts.routing = {.scores = Routing::Scores::kSigmoid,
                            .among = Routing::Among::kChosen,
                            .weighed = Routing::Weighed::kInput};
  result.experts.storage = ExpertsConfig::Storage::kStacked;
  ReadExpertLayers(config, what, result);
  return result;
}

// Layers without rotation see all tokens, the others those of their chunk. Queries are not scaled
// by their position ("attn_temperature_tuning"): vLLM 0.32 does so beyond 32,768 tokens alone.
void ReadAttention(const Json& config, std::string_view what, DecoderConfig& result) {
  const int64_t interval = OptionalInt(config, "no_rope_layer_interval", what).value_or(4);
  const Json* rotated = OptionalArray(config, "no_rope_layers", what);
  if (rotated != nullptr && rotated->empty()) rotated = nullptr;
  if (interval < 1 || (rotated != nullptr && std::ssize(*rotated) < result.layers)) {
    Fail(ErrorCode::kCorruptInput,
         "{}: \"no_rope_layers\" has to name every layer, and \"no_rope_layer_interval\" to be 1 "
         "or more",
         what);
  }
  for (int64_t i = 0; i < result.layers; ++i) {
    const auto index = static_cast<std::size_t>(i);
    result.rotated.push_back(rotated != nullptr ? (*rotated)[index] != Json(0)
                                                : (i + 1) % interval != 0);
  }
  result.chunk = OptionalInt(config, "attention_chunk_size", what).value_or(8192);
  if (result.chunk < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: \"attention_chunk_size\" is {}, expected 1 or more", what,
         result.chunk);
  }
  result.rotary_pairs = RotaryPairs::kInterleaved;
  result.head_norms = OptionalBool(config, "use_qk_norm", what).value_or(true);
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = Shapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  ReadAttention(config, what, result);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  if (config.rotates(layer)) {
    spec.attention.scores.chunk = config.chunk;
    if (config.head_norms) {
      // Without weights, and after the rotation.
      NormHeads(config, "", "", spec);
      for (const NormPlace place : {NormPlace::kQuery, NormPlace::kKey})
        spec.Norm(place)->weight = "";
      spec.attention.head_norms = AttentionBlock::HeadNorms::kAfterRotation;
    }
  }
  const std::string mlp = LayerPrefix(spec) + "mlp.";
  for (LinearSpec& linear : spec.linears) {
    if (!linear.module.starts_with(mlp)) continue;
    linear.module = LayerPrefix(spec) + "feed_forward." + linear.module.substr(mlp.size());
  }
  PutExperts(config, layer,
             {.module = "feed_forward.experts",
              .router = "feed_forward.router",
              .shared = "feed_forward.shared_expert",
              .all_gate_up = "feed_forward.experts.gate_up_proj",
              .all_down = "feed_forward.experts.down_proj",
              .transposed = true},
             spec);
  return spec;
}

}  // namespace

ModelFamily Llama4Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "llama4_text",
          .description = "Llama 4",
          .parse_shapes = &Shapes,
          .parse_config = &ParseConfig,
          .layer = &Layer};
}

}  // namespace narrow
