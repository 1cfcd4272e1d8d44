// Source: transformers 5, models/seed_oss, through which vLLM 0.32 runs it, too.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "SeedOssForCausalLM",
                                       .name = "Seed-OSS",
                                       .max_positions = 524288,
                                       .key_value_heads = 8,
                                       .head_size = 128,
                                       .query_key_value_bias = {"attention_bias", Bias::kPresent},
                                       .attention_output_bias = {"attention_out_bias"},
                                       .mlp_bias = kMlpBias};

}  // namespace

ModelFamily SeedOssFamily() {
  return {.architecture = kDefaults.architecture,
          .model_type = "seed_oss",
          .description = "Seed-OSS",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ConfigOf<kDefaults>,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
