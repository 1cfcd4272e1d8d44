#include "model/llama/llama.h"

#include "model/decoder_reading.h"

namespace narrow::llama {
namespace {

constexpr DecoderDefaults kDefaults = {
    .architecture = "LlamaForCausalLM", .name = "Llama", .max_positions = 2048};

}  // namespace

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  const auto bias = [&](std::string_view key) {
    return OptionalBool(config, key, what).value_or(false) ? Bias::kPresent : Bias::kNone;
  };
  result.query_key_value_bias = result.attention_output_bias = bias("attention_bias");
  result.mlp_bias = bias("mlp_bias");
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  return result;
}

}  // namespace narrow::llama
