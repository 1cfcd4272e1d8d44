// Source: transformers 5.19, models/starcoder2, through which vLLM 0.32 runs it, too.
#include "base/error.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr BiasRule kBias = {"use_bias", Bias::kPresent};
constexpr DecoderDefaults kDefaults = {
    .architecture = "Starcoder2ForCausalLM",
    .name = "StarCoder2",
    .max_positions = 4096,
    .key_value_heads = 2,
    .norms = {.kind = NormSpec::Kind::kLayer, .bias = Bias::kPresent},
    .norm_epsilon = 1e-5,
    .epsilon = "norm_epsilon",
    .tied = true,
    .query_key_value_bias = kBias,
    .attention_output_bias = kBias,
    .mlp_bias = kBias,
    .activation = Activation::kGeluTanh};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  const int64_t window = OptionalInt(config, "sliding_window", what).value_or(0);
  if (window < 0) {
    Fail(ErrorCode::kCorruptInput, "{}: \"sliding_window\" is {}, expected 1 or more, or null",
         what, window);
  }
  result.windows.assign(static_cast<std::size_t>(result.layers), window);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  LeaveOutGate(spec, "c_fc", "c_proj");
  return spec;
}

}  // namespace

ModelFamily Starcoder2Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "starcoder2",
          .description = "StarCoder2",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig,
          .layer = &Layer,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
