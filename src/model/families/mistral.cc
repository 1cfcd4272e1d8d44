// Source: transformers 5, models/mistral and models/ministral; vLLM 0.32,
// model_executor/models/mistral.py.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults Defaults(std::string_view architecture, std::string_view name) {
  return {
      .architecture = architecture, .name = name, .max_positions = 131072, .key_value_heads = 8};
}
constexpr DecoderDefaults kMistral = Defaults("MistralForCausalLM", "Mistral");
constexpr DecoderDefaults kMinistral = Defaults("MinistralForCausalLM", "Ministral");
constexpr int64_t kWindow = 4096;

DecoderConfig ParseMistral(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kMistral);
  // A member of Ministral; transformers' Mistral does not heed it.
  Json plain = config;
  plain.erase("layer_types");
  ReadWindows(plain, what, kWindow, EveryLayer, result);
  return result;
}

DecoderConfig ParseMinistral(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kMinistral);
  ReadWindows(config, what, kWindow, EveryLayer, result);
  return result;
}

}  // namespace

ModelFamily MistralFamily() {
  return {.architecture = kMistral.architecture,
          .model_type = "mistral",
          .description = "Mistral",
          .parse_shapes = &ShapesOf<kMistral>,
          .parse_config = &ParseMistral};
}

ModelFamily MinistralFamily() {
  return {.architecture = kMinistral.architecture,
          .model_type = "ministral",
          .description = "Ministral",
          .parse_shapes = &ShapesOf<kMinistral>,
          .parse_config = &ParseMinistral,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
