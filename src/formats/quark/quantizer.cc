#include "formats/quark/quantizer.h"

#include <string_view>

#include "formats/quark_layout.h"

namespace narrow {
namespace {

// The Quark release whose layout this is; readers choose their parser by it.
constexpr std::string_view kQuarkVersion = "0.13";

}  // namespace

Json QuarkQuantizer(const TensorScheme& scheme, QuarkSide side) {
  const bool groups = scheme.scale == ScaleFormat::kPowerOfTwo;
  const bool tensor = scheme.block == BlockShape{};
  Json spec = Json::object();
  spec["block_size"] = nullptr;
  spec["ch_axis"] = nullptr;
  if (groups) {
    spec["ch_axis"] = -1;
  } else if (!tensor) {
    spec["ch_axis"] = side == QuarkSide::kWeight ? 0 : 1;
  }
  spec["dtype"] = scheme.code == Code::kE2M1 ? "fp4" : "fp8_e4m3";
  spec["enable_buffer_reuse"] = false;
  spec["group_size"] = nullptr;
  if (groups) spec["group_size"] = scheme.block.columns;
  spec["is_dynamic"] = scheme.timing == Timing::kDynamic;
  spec["is_scale_quant"] = false;
  spec["max_input_numel"] = 4194304;
  spec["mx_element_dtype"] = nullptr;
  spec["observer_cls"] = groups   ? "PerBlockMXObserver"
                         : tensor ? "PerTensorMinMaxObserver"
                                  : "PerChannelMinMaxObserver";
  spec["qscheme"] = groups ? "per_group" : tensor ? "per_tensor" : "per_channel";
  spec["round_method"] = "half_even";
  spec["scale_calculation_mode"] = nullptr;
  spec["scale_format"] = nullptr;
  if (groups) {
    spec["scale_calculation_mode"] = "even";
    spec["scale_format"] = "e8m0";
  }
  spec["scale_type"] = "float";
  spec["symmetric"] = true;
  if (groups) spec["symmetric"] = nullptr;
  spec["zero_point_type"] = "int32";
  return spec;
}

Json QuarkConfigBlock(const QuarkConfigParts& parts) {
  Json config = Json::object();
  config["algo_config"] = nullptr;
  config["exclude"] = parts.excluded;
  config["export"] = parts.exported.is_null() ? QuarkExportBlock({}) : parts.exported;
  config["global_quant_config"] = parts.global;
  config["kv_cache_post_rope"] = false;
  config["kv_cache_quant_config"] = parts.cache_layers;
  config["layer_quant_config"] = parts.cache_layers;
  config["layer_type_quant_config"] = Json::object();
  config["quant_method"] = "quark";
  config["quant_mode"] = "eager_mode";
  config["softmax_quant_spec"] = nullptr;
  config["version"] = kQuarkVersion;
  return config;
}

}  // namespace narrow
