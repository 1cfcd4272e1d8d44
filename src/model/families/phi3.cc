// Source: transformers 5, models/phi3; vLLM 0.32, model_executor/models/phi3.py. Stored fused:
// qkv_proj and gate_up_proj.
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Phi3ForCausalLM",
                                       .name = "Phi-3",
                                       .max_positions = 4096,
                                       .norm_epsilon = 1e-5,
                                       .rotation = DecoderDefaults::Rotation::kPartial};

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  ReadWindows(config, what, std::nullopt, EveryLayer, result);
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
  return {.architecture = kDefaults.architecture,
          .model_type = "phi3",
          .description = "Phi-3 and Phi-4",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig,
          .layer = &Layer};
}

}  // namespace narrow
