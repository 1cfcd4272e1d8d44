// Source: transformers 5, models/ernie4_5; vLLM 0.32, model_executor/models/ernie45.py.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr BiasRule kBias = {"use_bias"};
constexpr DecoderDefaults kDefaults = {.architecture = "Ernie4_5ForCausalLM",
                                       .name = "ERNIE 4.5",
                                       .max_positions = 131072,
                                       .key_value_heads = 2,
                                       .head_size = 128,
                                       .norm_epsilon = 1e-5,
                                       .theta = 500000.0,
                                       .tied = true,
                                       .query_key_value_bias = kBias,
                                       .attention_output_bias = kBias,
                                       .mlp_bias = kBias};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  result.rotary_pairs = RotaryPairs::kInterleaved;
  return result;
}

}  // namespace

ModelFamily Ernie45Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "ernie4_5",
          .description = "ERNIE 4.5 dense",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig};
}

}  // namespace narrow
