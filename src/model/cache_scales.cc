#include "model/cache_scales.h"

#include "base/error.h"

namespace narrow {
namespace {

std::string ModuleOf(const LayerSpec& layer, WeightRole role) {
  for (const LinearSpec& linear : layer.linears) {
    if (linear.role == role) return linear.module;
  }
  Fail(ErrorCode::kInternal, "{} has no linear of the role asked for", layer.attention_module);
}

std::vector<CacheScaleNames> Spellings(const LayerSpec& layer) {
  const std::string& attention = layer.attention_module;
  const std::string key = ModuleOf(layer, WeightRole::kKey);
  const std::string value = ModuleOf(layer, WeightRole::kValue);
  const std::string fused = attention + ".qkv_proj";
  return {{attention + ".k_scale", attention + ".v_scale"},
          {key + ".output_scale", value + ".output_scale"},
          {key + ".k_scale", value + ".v_scale"},
          {fused + ".k_scale", fused + ".v_scale"},
          {attention + ".kv_scale", attention + ".kv_scale"}};
}

}  // namespace

std::optional<CacheScaleNames> FindCacheScales(const CheckpointReader& checkpoint,
                                               const LayerSpec& layer) {
  std::optional<CacheScaleNames> found;
  for (CacheScaleNames& names : Spellings(layer)) {
    const bool key = checkpoint.Find(names.key) != nullptr;
    const bool value = checkpoint.Find(names.value) != nullptr;
    if (!key && !value) continue;
    if (key != value) {
      Fail(ErrorCode::kCorruptInput, "the checkpoint has the scale {} but no {}",
           key ? names.key : names.value, key ? names.value : names.key);
    }
    if (found) {
      Fail(ErrorCode::kCorruptInput,
           "the checkpoint has the cache scales {} and {}, and which of them counts depends on who "
           "reads it; remove one",
           found->key, names.key);
    }
    found = std::move(names);
  }
  return found;
}

std::vector<std::string> AttentionScales(const LayerSpec& layer) {
  const std::string& attention = layer.attention_module;
  return {attention + ".q_scale", ModuleOf(layer, WeightRole::kQuery) + ".output_scale",
          attention + ".prob_scale", attention + ".prob_output_scale"};
}

}  // namespace narrow
