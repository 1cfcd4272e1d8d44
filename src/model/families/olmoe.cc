// Source: transformers 5, models/olmoe; vLLM 0.32, model_executor/models/olmoe.py.
#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "OlmoeForCausalLM",
                                       .name = "OLMoE",
                                       .max_positions = 4096,
                                       .norm_epsilon = 1e-5};

DecoderConfig Shapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  ReadExperts(config, what,
              {.count = "num_experts",
               .other_count = "num_local_experts",
               .width = "intermediate_size",
               .absent_count = 64,
               .absent_per_token = 8},
              result);
  result.experts.routing.renormalized =
      OptionalBool(config, "norm_topk_prob", what).value_or(false);
  return result;
}

// vLLM gives none of the linears a bias and clips nothing.
DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  if (OptionalBool(config, "attention_bias", what).value_or(false)) {
    Fail(ErrorCode::kUnsupported, "{}: \"attention_bias\" is true; expected false", what);
  }
  if (OptionalNumber(config, "clip_qkv", what)) {
    Fail(ErrorCode::kUnsupported, "{}: \"clip_qkv\" is a number; expected null", what);
  }
  DecoderConfig result = Shapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  return result;
}

// The norms of Q and K take the whole width together.
LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  NormHeads(config, "q_norm", "k_norm", spec);
  spec.Norm(NormPlace::kQuery)->size = config.query_width();
  spec.Norm(NormPlace::kKey)->size = config.key_value_width();
  PutExperts(config, layer, {}, spec);
  return spec;
}

}  // namespace

ModelFamily OlmoeFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "olmoe",
          .description = "OLMoE",
          .parse_shapes = &Shapes,
          .parse_config = &ParseConfig,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
