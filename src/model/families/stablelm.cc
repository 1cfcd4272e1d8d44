// Source: transformers 5.19, models/stablelm; vLLM 0.32, model_executor/models/stablelm.py, which
// computes neither norms of q and k nor attention and MLP side by side.
#include "base/error.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {
    .architecture = "StableLmForCausalLM",
    .name = "StableLM",
    .max_positions = 4096,
    .norms = {.kind = NormSpec::Kind::kLayer, .bias = Bias::kPresent},
    .norm_epsilon = 1e-5,
    .epsilon = "layer_norm_eps",
    .query_key_value_bias = {"use_qkv_bias"},
    .rotary_share = 0.25,
    .rotation = DecoderDefaults::Rotation::kPartial};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  for (const std::string_view key : {"qk_layernorm", "use_parallel_residual"}) {
    if (!OptionalBool(config, key, what).value_or(false)) continue;
    Fail(ErrorCode::kUnsupported,
         "{}: {} is true, which vLLM ignores and would serve wrong; expected false", what,
         Quoted(key));
  }
  return ReadDecoder(config, what, kDefaults);
}

}  // namespace

ModelFamily StableLmFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "stablelm",
          .description = "StableLM 2, StableLM 3B",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig,
          .layer = &DecoderLayout,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
