// Source: transformers 5, models/granite; vLLM 0.32, model_executor/models/granite.py.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {
    .architecture = "GraniteForCausalLM", .name = "Granite", .max_positions = 2048};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  result.query_key_value_bias = ReadBias(config, "attention_bias", what, false);
  result.attention_output_bias = result.query_key_value_bias;
  result.mlp_bias = ReadBias(config, "mlp_bias", what, false);
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  result.embedding_scale = ReadFactor(config, "embedding_multiplier", what, 1.0);
  result.score_scale = ReadFactor(config, "attention_multiplier", what, 1.0);
  result.residual_scale = ReadFactor(config, "residual_multiplier", what, 1.0);
  result.logit_scale = 1.0f / ReadFactor(config, "logits_scaling", what, 1.0);
  return result;
}

}  // namespace

ModelFamily GraniteFamily() {
  return {"GraniteForCausalLM", "granite",      "Granite 3",   &ParseShapes,
          &ParseConfig,         &DecoderLayout, &DecoderModel, &IsRotaryTable};
}

}  // namespace narrow
