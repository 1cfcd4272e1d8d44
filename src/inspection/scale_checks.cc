#include "inspection/scale_checks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "base/error.h"

namespace narrow {
namespace {

constexpr std::string_view kWeight = ".weight";

void CheckScaleValue(const InspectedTensor& tensor, Findings& findings) {
  const std::string name = Quoted(tensor.name);
  if (!Info(tensor.dtype).floating) {
    findings.Error("scales of a wrong type", fmt::format("scale {} is {}, expected a floating type",
                                                         name, Name(tensor.dtype)));
    return;
  }
  if (tensor.bytes != ElementBytes(tensor.dtype)) {
    findings.Error("scales that are no scalar",
                   fmt::format("scale {} has {} elements, vLLM takes one", name,
                               tensor.bytes / ElementBytes(tensor.dtype)));
  } else if (tensor.shape.size() > 1) {
    findings.Error("scales that are no scalar",
                   fmt::format("scale {} has {} dimensions, vLLM takes shape [] or [1]", name,
                               tensor.shape.size()));
  }
  for (const float value : tensor.scale) {
    if (std::isfinite(value) && value >= std::numeric_limits<float>::min()) continue;
    findings.Error("scales that are not positive",
                   fmt::format("scale {} is {}, expected a positive number{}", name, value,
                               value > 0 && std::isfinite(value) ? " that is not denormal" : ""));
  }
}

void CheckFp8Weight(const InspectedTensor& tensor, const Inventory& inventory,
                    ActivationScales activation, Findings& findings) {
  const std::string module = tensor.name.substr(0, tensor.name.size() - kWeight.size());
  if (inventory.Find(module + ".weight_scale") == nullptr) {
    findings.Error("FP8 weights without weight_scale",
                   fmt::format("FP8 weight {} has no weight_scale: vLLM would compute garbage "
                               "without a word",
                               Quoted(tensor.name)));
  }
  if (activation == ActivationScales::kRequired &&
      inventory.Find(module + ".input_scale") == nullptr) {
    findings.Error("FP8 weights without input_scale",
                   fmt::format("FP8 weight {} has no input_scale, although activations are "
                               "quantized statically",
                               Quoted(tensor.name)));
  }
}

// A weight_scale or input_scale needs an FP8 weight beside it.
void CheckOwner(const InspectedTensor& tensor, const Inventory& inventory, Findings& findings) {
  for (const std::string_view suffix : {".weight_scale", ".input_scale"}) {
    if (!tensor.name.ends_with(suffix)) continue;
    const std::string module = tensor.name.substr(0, tensor.name.size() - suffix.size());
    const InspectedTensor* weight = inventory.Find(module + ".weight");
    if (weight == nullptr || weight->dtype != Dtype::kF8E4M3) {
      findings.Error("scales without an FP8 weight",
                     fmt::format("scale {} belongs to no F8_E4M3 weight", Quoted(tensor.name)));
    }
  }
}

bool HasAny(const Inventory& inventory, const std::string& attention,
            std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(), [&](std::string_view name) {
    return inventory.Find(fmt::format("{}.{}", attention, name)) != nullptr;
  });
}

}  // namespace

void CheckScales(const Inventory& inventory, ActivationScales activation, Findings& findings) {
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (IsScaleName(tensor.name)) {
      CheckScaleValue(tensor, findings);
      CheckOwner(tensor, inventory, findings);
    } else if (tensor.name.ends_with(kWeight) && tensor.dtype == Dtype::kF8E4M3) {
      CheckFp8Weight(tensor, inventory, activation, findings);
    } else if (tensor.dtype == Dtype::kF8E5M2) {
      findings.Error("E5M2 weights", fmt::format("tensor {} is F8_E5M2; vLLM loads F8_E4M3 weights",
                                                 Quoted(tensor.name)));
    }
  }
}

std::optional<std::string> CheckQueryScales(const Inventory& inventory, const ExpectedModel& model,
                                            Findings& findings) {
  std::vector<std::string> without;
  for (const ExpectedLayer& layer : model.layers) {
    if (!layer.caches) continue;
    const std::string& attention = layer.attention_module;
    const bool own = HasAny(inventory, attention, {"q_scale"});
    const bool output = HasAny(inventory, attention, {"q_proj.output_scale"});
    if (own && output) {
      findings.Error("scales in two spellings",
                     fmt::format("{} has a q_scale and a q_proj.output_scale: which of them counts "
                                 "depends on the order of loading",
                                 attention));
    }
    if (!own && !output) without.push_back(attention);
  }
  if (std::ssize(without) == std::ranges::count(model.layers, true, &ExpectedLayer::caches)) {
    const bool cached = std::ranges::any_of(model.layers, [&](const ExpectedLayer& layer) {
      return HasAny(inventory, layer.attention_module,
                    {"k_scale", "k_proj.output_scale", "kv_scale"});
    });
    if (!cached) return std::nullopt;
    return "there are no scales of queries (q_scale): vLLM takes 1.0 where it computes attention "
           "over an FP8 cache in FP8, and so does evaluate";
  }
  for (const std::string& attention : without) {
    findings.Warning(
        "missing q scales",
        fmt::format("{} has no q_scale although other layers do: vLLM would use 1.0", attention));
  }
  return std::nullopt;
}

std::optional<std::string> FindLatentScales(const Inventory& inventory,
                                            const ExpectedModel& model) {
  const bool there = std::ranges::any_of(model.layers, [&](const ExpectedLayer& layer) {
    return layer.latent && HasAny(inventory, layer.attention_module,
                                  {"k_scale", "kv_scale", "k_proj.output_scale", "k_proj.k_scale"});
  });
  if (!there) return std::nullopt;
  return "the cache of latent attention has scales, which vLLM 0.32 loads under no name: it takes "
         "1.0, and so does evaluate";
}

void CheckKvScales(const Inventory& inventory, const ExpectedModel& model, KvScales promise,
                   Findings& findings) {
  std::vector<std::string> without;
  for (const ExpectedLayer& layer : model.layers) {
    if (!layer.caches) continue;
    const std::string& attention = layer.attention_module;
    const bool merged = HasAny(inventory, attention, {"kv_scale"});
    const bool k =
        merged || HasAny(inventory, attention,
                         {"k_scale", "k_proj.output_scale", "k_proj.k_scale", "qkv_proj.k_scale"});
    const bool v =
        merged || HasAny(inventory, attention,
                         {"v_scale", "v_proj.output_scale", "v_proj.v_scale", "qkv_proj.v_scale"});
    if (merged &&
        HasAny(inventory, attention,
               {"k_scale", "k_proj.output_scale", "k_proj.k_scale", "qkv_proj.k_scale"})) {
      findings.Error("scales in two spellings",
                     fmt::format("{} has a kv_scale and another scale for K: which of them counts "
                                 "depends on the order of loading",
                                 attention));
    }
    if (merged) {
      findings.Warning("deprecated scales",
                       fmt::format("{}.kv_scale is deprecated: one scale for K and V", attention));
    }
    if (k != v) {
      findings.Error("half KV scales", fmt::format("{} has a {} scale but no {} scale", attention,
                                                   k ? "K" : "V", k ? "V" : "K"));
    }
    if (!k && !v) without.push_back(attention);
  }
  const bool none =
      std::ssize(without) == std::ranges::count(model.layers, true, &ExpectedLayer::caches);
  if (none && promise == KvScales::kOptional) return;
  for (const std::string& attention : without) {
    findings.Error(
        "missing KV scales",
        fmt::format("{} has no K and V scales although {}: vLLM would use 1.0", attention,
                    none ? "the configuration promises them" : "other layers do"));
  }
}

}  // namespace narrow
