// Source: transformers 5, models/phi3; vLLM 0.32, model_executor/models/phi3.py. Stored fused:
// qkv_proj and gate_up_proj.
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Phi3ForCausalLM",
                                       .name = "Phi-3",
                                       .max_positions = 4096,
                                       .norm_epsilon = 1e-5,
                                       .rotation = DecoderDefaults::Rotation::kPartial};

DecoderConfig ParseShapes(const Json& config, std::string_view what) {
  return ReadShapes(config, what, kDefaults);
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ParseShapes(config, what);
  ReadArithmetic(config, what, kDefaults, result);
  ReadWindows(
      config, what, std::nullopt, [](int64_t) { return true; }, result);
  return result;
}

LayerSpec Layer(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  StoreTogether(spec, LinearGroup::kQueryKeyValue, WeightRole::kQueryKeyValue, "qkv_proj");
  StoreTogether(spec, LinearGroup::kGateUp, WeightRole::kGateUp, "gate_up_proj");
  return spec;
}

}  // namespace

ModelFamily Phi3Family() {
  return {"Phi3ForCausalLM", "phi3", "Phi-3 and Phi-4", &ParseShapes,
          &ParseConfig,      &Layer, &DecoderModel,     &IsRotaryTable};
}

}  // namespace narrow
