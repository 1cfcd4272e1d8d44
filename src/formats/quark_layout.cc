#include "formats/quark_layout.h"

#include <utility>

namespace narrow {

LinearTensors QuarkLinearTensors(const QuantizedLinear& linear) {
  return {TensorSpec{linear.name + ".weight", Dtype::kF8E4M3,
                     Shape{linear.out_features, linear.in_features}},
          ScalarScale(linear.name + ".weight_scale"), ScalarScale(linear.name + ".input_scale")};
}

TensorSpec ScalarScale(std::string name) {
  return TensorSpec{std::move(name), Dtype::kF32, Shape{}};
}

Json QuarkExportBlock(const QuantizedCheckpointDescription& description) {
  Json block = Json::object();
  block["kv_cache_group"] = description.cache_patterns;
  block["min_kv_scale"] = description.min_kv_scale;
  block["pack_method"] = "reorder";
  block["weight_format"] = "real_quantized";
  block["weight_merge_groups"] = nullptr;
  if (description.weight_merge_groups) {
    block["weight_merge_groups"] = *description.weight_merge_groups;
  }
  return block;
}

}  // namespace narrow
