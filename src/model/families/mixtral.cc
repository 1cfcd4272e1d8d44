// Source: transformers 5, models/mixtral and models/minimax_m2; vLLM 0.32,
// model_executor/models/mixtral.py and minimax_m2.py.
#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kMixtral = {.architecture = "MixtralForCausalLM",
                                      .name = "Mixtral",
                                      .max_positions = 131072,
                                      .key_value_heads = 8,
                                      .norm_epsilon = 1e-5,
                                      .theta = 1e6};
constexpr DecoderDefaults kMiniMax = {.architecture = "MiniMaxM2ForCausalLM",
                                      .name = "MiniMax-M2",
                                      .max_positions = 196608,
                                      .key_value_heads = 8,
                                      .head_size = 128,
                                      .theta = 5e6,
                                      .rotation = DecoderDefaults::Rotation::kPartial};

// gate, down and up are w1, w2 and w3.
constexpr ExpertNames kNames = {.module = "block_sparse_moe.experts",
                                .router = "block_sparse_moe.gate",
                                .gate = "w1",
                                .up = "w3",
                                .down = "w2",
                                .all_gate_up = "block_sparse_moe.experts.gate_up_proj",
                                .all_down = "block_sparse_moe.experts.down_proj"};

DecoderConfig Shapes(const Json& config, std::string_view what, const DecoderDefaults& family) {
  DecoderConfig result = ReadShapes(config, what, family);
  ReadExperts(config, what,
              {.count = "num_local_experts",
               .other_count = "num_experts",
               .width = "intermediate_size",
               .absent_count = 8,
               .absent_per_token = 2},
              result);
  result.experts.routing.renormalized = true;
  return result;
}

DecoderConfig ShapesOfMixtral(const Json& config, std::string_view what) {
  return Shapes(config, what, kMixtral);
}
DecoderConfig ShapesOfMiniMax(const Json& config, std::string_view what) {
  DecoderConfig result = Shapes(config, what, kMiniMax);
  result.experts.routing.scores = Routing::Scores::kSigmoid;
  return result;
}

DecoderConfig ParseMixtral(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfMixtral(config, what);
  ReadArithmetic(config, what, kMixtral, result);
  ReadWindows(config, what, std::nullopt, EveryLayer, result);
  return result;
}

// What vLLM heeds and transformers does not: another scoring, a router without correction, blocks
// without norms of q and k.
void RefuseOtherMiniMax(const Json& config, std::string_view what) {
  const auto scoring = OptionalString(config, "scoring_func", what);
  if (scoring && *scoring != "sigmoid") {
    Fail(ErrorCode::kUnsupported, "{}: \"scoring_func\" {} is not supported; expected sigmoid",
         what, Quoted(*scoring));
  }
  for (const std::string_view key : {"use_qk_norm", "use_routing_bias"}) {
    if (OptionalBool(config, key, what).value_or(true)) continue;
    Fail(ErrorCode::kUnsupported, "{}: \"{}\" is false; expected true", what, key);
  }
}

DecoderConfig ParseMiniMax(const Json& config, std::string_view what) {
  DecoderConfig result = ShapesOfMiniMax(config, what);
  RefuseOtherMiniMax(config, what);
  Json read = config;
  // "rotary_dim", in channels, is what old configs say.
  const auto rotated = OptionalInt(config, "rotary_dim", what);
  if (rotated && !config.contains("partial_rotary_factor")) {
    read["partial_rotary_factor"] =
        static_cast<double>(*rotated) / static_cast<double>(result.heads.head_size);
  }
  ReadArithmetic(read, what, kMiniMax, result);
  return result;
}

LayerSpec LayerOfMixtral(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  PutExperts(config, layer, kNames, spec);
  return spec;
}

// The norms of Q and K take the whole width together.
LayerSpec LayerOfMiniMax(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormHeads(config, "q_norm", "k_norm", spec);
  spec.Norm(NormPlace::kQuery)->size = config.query_width();
  spec.Norm(NormPlace::kKey)->size = config.key_value_width();
  ExpertNames names = kNames;
  names.correction = "block_sparse_moe.e_score_correction_bias";
  PutExperts(config, layer, names, spec);
  return spec;
}

}  // namespace

ModelFamily MixtralFamily() {
  return {.architecture = kMixtral.architecture,
          .model_type = "mixtral",
          .description = "Mixtral",
          .parse_shapes = &ShapesOfMixtral,
          .parse_config = &ParseMixtral,
          .layer = &LayerOfMixtral};
}

ModelFamily MiniMaxM2Family() {
  return {.architecture = kMiniMax.architecture,
          .model_type = "minimax_m2",
          .description = "MiniMax-M2",
          .parse_shapes = &ShapesOfMiniMax,
          .parse_config = &ParseMiniMax,
          .layer = &LayerOfMiniMax};
}

}  // namespace narrow
