#include "model/cache_scales.h"

#include <algorithm>

#include "base/error.h"

namespace narrow {
namespace {

// The only one of the names that the checkpoint has; "" when it has none.
std::string Only(const CheckpointReader& checkpoint, const std::vector<std::string>& names) {
  std::string found;
  for (const std::string& name : names) {
    if (checkpoint.Find(name) == nullptr) continue;
    if (!found.empty()) {
      Fail(ErrorCode::kCorruptInput,
           "the checkpoint has the scales {} and {} for one thing, and which of them counts "
           "depends on who "
           "reads it; remove one",
           found, name);
    }
    found = name;
  }
  return found;
}

}  // namespace

std::string ModuleOf(const LayerSpec& layer, WeightRole role) {
  for (const LinearSpec& linear : layer.linears) {
    if (linear.role == role) return linear.module;
  }
  if (role == WeightRole::kQuery) return layer.attention_module + ".q_proj";
  if (role == WeightRole::kKey) return layer.attention_module + ".k_proj";
  if (role == WeightRole::kValue) return layer.attention_module + ".v_proj";
  Fail(ErrorCode::kInternal, "{} has no linear of the role asked for", layer.attention_module);
}

std::optional<CacheScaleNames> FindCacheScales(const CheckpointReader& checkpoint,
                                               const LayerSpec& layer) {
  const std::string& attention = layer.attention_module;
  const std::string key_module = ModuleOf(layer, WeightRole::kKey);
  const std::string value_module = ModuleOf(layer, WeightRole::kValue);
  const std::string both = attention + ".kv_scale";
  const std::string key =
      Only(checkpoint, {attention + ".k_scale", key_module + ".output_scale",
                        key_module + ".k_scale", attention + ".qkv_proj.k_scale", both});
  std::string value =
      Only(checkpoint, {attention + ".v_scale", value_module + ".output_scale",
                        value_module + ".v_scale", attention + ".qkv_proj.v_scale"});
  if (key.empty() && value.empty()) return std::nullopt;
  if (value.empty() && key == both) value = both;
  if (key.empty() || value.empty()) {
    Fail(ErrorCode::kCorruptInput, "{} has the cache scale {}, but none for {}", attention,
         key.empty() ? value : key, key.empty() ? "K" : "V");
  }
  return CacheScaleNames{key, value};
}

bool HasCacheScales(const CheckpointReader& checkpoint, const std::vector<LayerSpec>& layers) {
  return std::ranges::any_of(layers, [&](const LayerSpec& layer) {
    return layer.caches() && FindCacheScales(checkpoint, layer).has_value();
  });
}

std::optional<std::string> FindQueryScale(const CheckpointReader& checkpoint,
                                          const LayerSpec& layer) {
  std::string name = Only(checkpoint, {layer.attention_module + ".q_scale",
                                       ModuleOf(layer, WeightRole::kQuery) + ".output_scale"});
  if (name.empty()) return std::nullopt;
  return name;
}

std::vector<std::string> ProbabilityScales(const LayerSpec& layer) {
  return {layer.attention_module + ".prob_scale", layer.attention_module + ".prob_output_scale"};
}

}  // namespace narrow
