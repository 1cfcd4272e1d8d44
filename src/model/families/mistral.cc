// Source: transformers 5, models/mistral and models/ministral; vLLM 0.32,
// model_executor/models/mistral.py.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "MistralForCausalLM",
                                       .name = "Mistral",
                                       .max_positions = 131072,
                                       .key_value_heads = 8};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  return ReadShapes(config, what, kDefaults);
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  // Members of Ministral; transformers' Mistral does not heed them.
  Json plain = config;
  plain.erase("layer_types");
  ReadWindows(
      plain, what, 4096, [](int64_t) { return true; }, result);
  return result;
}

constexpr DecoderDefaults kMinistral = {.architecture = "MinistralForCausalLM",
                                        .name = "Ministral",
                                        .max_positions = 131072,
                                        .key_value_heads = 8};

DecoderConfig ParseMinistralShapes(const Json& config, std::string_view what) {
  return ReadShapes(config, what, kMinistral);
}

DecoderConfig ParseMinistral(const Json& config, std::string_view what) {
  DecoderConfig result = ParseMinistralShapes(config, what);
  ReadArithmetic(config, what, kMinistral, result);
  ReadWindows(
      config, what, 4096, [](int64_t) { return true; }, result);
  return result;
}

}  // namespace

ModelFamily MistralFamily() {
  return {"MistralForCausalLM", "mistral",      "Mistral",     &ParseShapes,
          &ParseConfig,         &DecoderLayout, &DecoderModel, &IsRotaryTable};
}

ModelFamily MinistralFamily() {
  return {"MinistralForCausalLM", "ministral",    "Ministral",   &ParseMinistralShapes,
          &ParseMinistral,        &DecoderLayout, &DecoderModel, &IsRotaryTable};
}

}  // namespace narrow
