// Source: transformers 5, models/gpt_oss; vLLM 0.32, model_executor/models/gpt_oss.py.
#include "model/decoder_reading.h"
#include "model/experts_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {
    .architecture = "GptOssForCausalLM",
    .name = "gpt-oss",
    .max_positions = 131072,
    .key_value_heads = 8,
    .head_size = 64,
    .norm_epsilon = 1e-5,
    .theta = 150000.0,
    .query_key_value_bias = {.key = "attention_bias", .absent = Bias::kPresent},
    .attention_output_bias = {.key = "attention_bias", .absent = Bias::kPresent}};

DecoderConfig Shapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  ReadExperts(config, what,
              {.count = "num_local_experts",
               .other_count = "num_experts",
               .width = "intermediate_size",
               .absent_count = 128,
               .absent_per_token = 4},
              result);
  result.experts.routing.among = Routing::Among::kChosen;
  result.experts.bias = Bias::kPresent;
  result.experts.clamped = ClampedGate{ReadFactor(config, "swiglu_alpha", what, 1.702),
                                       ReadFactor(config, "swiglu_limit", what, 7.0)};
  result.experts.storage = ExpertsConfig::Storage::kStacked;
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = Shapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  ReadWindows(
      config, what, 128, [](int64_t layer) { return layer % 2 == 0; }, result);
  return result;
}

// Gate and up take turns in the tensors of all experts, which are [experts, inputs, outputs].
LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  spec.attention.sinks = spec.attention_module + ".sinks";
  PutExperts(config, layer,
             {.router = "mlp.router",
              .all_gate_up_bias = "mlp.experts.gate_up_proj_bias",
              .all_down_bias = "mlp.experts.down_proj_bias",
              .gate_up_rows = ExpertNames::Rows::kTakingTurns,
              .transposed = true},
             spec);
  return spec;
}

}  // namespace

ModelFamily GptOssFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "gpt_oss",
          .description = "gpt-oss",
          .parse_shapes = &Shapes,
          .parse_config = &ParseConfig,
          .layer = &Layer,
          .experts = ModelFamily::Experts::kKept};
}

}  // namespace narrow
