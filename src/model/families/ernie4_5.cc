// Source: transformers 5, models/ernie4_5; vLLM 0.32, model_executor/models/ernie45.py.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Ernie4_5ForCausalLM",
                                       .name = "ERNIE 4.5",
                                       .max_positions = 131072,
                                       .key_value_heads = 2,
                                       .head_size = 128,
                                       .norm_epsilon = 1e-5,
                                       .theta = 500000.0,
                                       .tied = true};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  result.query_key_value_bias = ReadBias(config, "use_bias", what, false);
  result.attention_output_bias = result.mlp_bias = result.query_key_value_bias;
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  result.rotary_pairs = RotaryPairs::kInterleaved;
  return result;
}

}  // namespace

ModelFamily Ernie45Family() {
  return {"Ernie4_5ForCausalLM", "ernie4_5",     "ERNIE 4.5 dense", &ParseShapes,
          &ParseConfig,          &DecoderLayout, &DecoderModel,     &IsRotaryTable};
}

}  // namespace narrow
