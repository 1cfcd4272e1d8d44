#include "formats/quark/quark.h"

#include <string>
#include <string_view>
#include <utility>

#include "formats/quark_layout.h"

namespace narrow {
namespace {

// The Quark release whose layout this is; readers choose their parser by it.
constexpr std::string_view kQuarkVersion = "0.13";

// One FP8 E4M3 per-tensor static quantizer. `scale_type` is "float" or null; both mean the same.
Json TensorQuantizer(Json scale_type) {
  Json spec = Json::object();
  spec["block_size"] = nullptr;
  spec["ch_axis"] = nullptr;
  spec["dtype"] = "fp8_e4m3";
  spec["enable_buffer_reuse"] = false;
  spec["group_size"] = nullptr;
  spec["is_dynamic"] = false;
  spec["is_scale_quant"] = false;
  spec["max_input_numel"] = 4194304;
  spec["mx_element_dtype"] = nullptr;
  spec["observer_cls"] = "PerTensorMinMaxObserver";
  spec["qscheme"] = "per_tensor";
  spec["round_method"] = "half_even";
  spec["scale_calculation_mode"] = nullptr;
  spec["scale_format"] = nullptr;
  spec["scale_type"] = std::move(scale_type);
  spec["symmetric"] = true;
  spec["zero_point_type"] = "int32";
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
  Json config = Json::object();
  config["algo_config"] = nullptr;
  config["exclude"] = description.excluded_linears;
  config["export"] = QuarkExportBlock(description);
  config["global_quant_config"] = LinearQuantizers(nullptr);
  config["kv_cache_post_rope"] = false;
  config["kv_cache_quant_config"] = cache_layers;
  config["layer_quant_config"] = cache_layers;
  config["layer_type_quant_config"] = Json::object();
  config["quant_method"] = "quark";
  config["quant_mode"] = "eager_mode";
  config["softmax_quant_spec"] = nullptr;
  config["version"] = kQuarkVersion;
  return config;
}

KvScaleTensors QuarkKvScaleTensors(const AttentionModule& attention) {
  return {ScalarScale(attention.key_projection + ".output_scale"),
          ScalarScale(attention.value_projection + ".output_scale")};
}

}  // namespace narrow
