// Source: transformers 5, models/seed_oss, through which vLLM 0.32 runs it, too.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "SeedOssForCausalLM",
                                       .name = "Seed-OSS",
                                       .max_positions = 524288,
                                       .key_value_heads = 8,
                                       .head_size = 128};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  DecoderConfig result = ReadShapes(config, what, kDefaults);
  result.query_key_value_bias = ReadBias(config, "attention_bias", what, true);
  result.attention_output_bias = ReadBias(config, "attention_out_bias", what, false);
  result.mlp_bias = ReadBias(config, "mlp_bias", what, false);
  return result;
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  return result;
}

}  // namespace

ModelFamily SeedOssFamily() {
  return {"SeedOssForCausalLM",
          "seed_oss",
          "Seed-OSS",
          &ParseShapes,
          &ParseConfig,
          &DecoderLayout,
          &DecoderModel,
          &IsRotaryTable,
          false,
          ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
