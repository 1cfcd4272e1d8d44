#include "formats/quark/quark.h"

#include <string>
#include <utility>

#include "formats/quark/quantizer.h"
#include "formats/quark_layout.h"

namespace narrow {
namespace {

constexpr TensorScheme kPerTensor;  // E4M3 with one static scale

// One FP8 E4M3 per-tensor static quantizer. `scale_type` is "float" or null; both mean the same.
Json TensorQuantizer(Json scale_type) {
  Json spec = QuarkQuantizer(kPerTensor, QuarkSide::kWeight);
  spec["scale_type"] = std::move(scale_type);
  return spec;
}

// The quantizers of a linear; `outputs` is null or that of its outputs.
Json LinearQuantizers(Json outputs) {
  Json layer = Json::object();
  layer["bias"] = nullptr;
  layer["input_tensors"] = TensorQuantizer("float");
  layer["output_tensors"] = std::move(outputs);
  layer["target_device"] = nullptr;
  layer["weight"] = TensorQuantizer("float");
  return layer;
}

}  // namespace

Json QuarkQuantizationConfig(const QuantizedCheckpointDescription& description) {
  Json cache_layers = Json::object();
  for (const std::string& pattern : description.cache_patterns) {
    cache_layers[pattern] = LinearQuantizers(TensorQuantizer(nullptr));
  }
  return QuarkConfigBlock({.excluded = description.excluded_linears,
                           .global = LinearQuantizers(nullptr),
                           .cache_layers = cache_layers,
                           .exported = QuarkExportBlock(description)});
}

AttentionScaleTensors QuarkAttentionScaleTensors(const AttentionModule& attention) {
  return {ScalarScale(attention.query_projection + ".output_scale"),
          ScalarScale(attention.key_projection + ".output_scale"),
          ScalarScale(attention.value_projection + ".output_scale")};
}

}  // namespace narrow
