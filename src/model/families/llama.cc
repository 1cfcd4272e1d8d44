#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {
    .architecture = "LlamaForCausalLM", .name = "Llama", .max_positions = 2048};

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
  return result;
}

}  // namespace

ModelFamily LlamaFamily() {
  return {
      "LlamaForCausalLM", "llama",       "Llama 2, 3, 3.1 and 3.2, SmolLM2 and other Llama layouts",
      &ParseShapes,       &ParseConfig,  &DecoderLayout,
      &DecoderModel,      &IsRotaryTable};
}

}  // namespace narrow
