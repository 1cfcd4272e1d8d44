#include "inspection/quantization_checks.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "inspection/scale_checks.h"

namespace narrow {
namespace {

constexpr std::string_view kConfig = "quantization_config";
constexpr const char* kConfigKind = "configuration errors";

using Names = std::set<std::string, std::less<>>;

// What the configuration says, as far as the checks need it.
struct Promise {
  ActivationScales activation = ActivationScales::kNotRequired;
  KvScales kv = KvScales::kOptional;
  Names ignored;
};

// The modules left unquantized, of a list under `key`; null and absent are empty.
void ReadIgnored(const Json& config, std::string_view key, Names& ignored, Findings& findings) {
  const Json* list = OptionalArray(config, key, kConfig);
  if (list == nullptr) return;
  for (const Json& name : *list) {
    if (!name.is_string()) {
      findings.Error(kConfigKind,
                     fmt::format("{}: {} holds a value that is not a string", kConfig, key));
      continue;
    }
    const auto& text = name.get_ref<const std::string&>();
    if (text.find_first_of("*?[") != std::string::npos && !text.starts_with("re:")) {
      findings.Warning("patterns", fmt::format("{}: {} holds the pattern {}; vLLM compares full "
                                               "names, so it matches nothing",
                                               kConfig, key, Quoted(text)));
    }
    ignored.insert(text);
  }
}

Promise ReadFp8(const Json& config, Findings& findings) {
  Promise promise;
  const auto activation = OptionalString(config, "activation_scheme", kConfig);
  if (!activation) {
    findings.Error(kConfigKind,
                   fmt::format("{}: activation_scheme is missing; vLLM requires it", kConfig));
  } else if (*activation != "static" && *activation != "dynamic") {
    findings.Error(kConfigKind,
                   fmt::format("{}: activation_scheme is {}, vLLM knows \"static\" and "
                               "\"dynamic\"",
                               kConfig, Quoted(*activation)));
  }
  if (activation == "static") promise.activation = ActivationScales::kRequired;
  if (OptionalString(config, "kv_cache_scheme", kConfig) == "static") {
    promise.kv = KvScales::kPromised;
  }
  ReadIgnored(config, "ignored_layers", promise.ignored, findings);
  ReadIgnored(config, "modules_to_not_convert", promise.ignored, findings);
  return promise;
}

// True when the specification of inputs is there and not dynamic.
bool HasStaticInputs(const Json& global) {
  const Json* inputs = OptionalObject(global, "input_tensors", kConfig);
  return inputs != nullptr && OptionalBool(*inputs, "is_dynamic", kConfig) == false;
}

Promise ReadQuark(const Json& config, Findings& findings) {
  Promise promise;
  const auto required = [&](std::string_view key, const Json* value) {
    if (value == nullptr) {
      findings.Error(kConfigKind, fmt::format("{}: {} is missing; vLLM requires it", kConfig, key));
    }
    return value;
  };
  const auto object = [&](std::string_view key) {
    return required(key, OptionalObject(config, key, kConfig));
  };
  object("layer_quant_config");
  object("layer_type_quant_config");
  required("exclude", OptionalArray(config, "exclude", kConfig));
  if (const Json* global = object("global_quant_config"); global && HasStaticInputs(*global)) {
    promise.activation = ActivationScales::kRequired;
  }
  if (const Json* exported = object("export")) {
    const Json* group =
        required("export.kv_cache_group", OptionalArray(*exported, "kv_cache_group", kConfig));
    if (group != nullptr && !group->empty()) promise.kv = KvScales::kPromised;
    if (!OptionalString(*exported, "pack_method", kConfig)) required("export.pack_method", nullptr);
  }
  ReadIgnored(config, "exclude", promise.ignored, findings);
  return promise;
}

void CheckModule(const std::string& module, bool ignored, const Inventory& inventory,
                 Findings& findings) {
  const InspectedTensor* weight = inventory.Find(module + ".weight");
  if (weight == nullptr) return;  // reported as missing
  const bool fp8 = weight->dtype == Dtype::kF8E4M3;
  if (fp8 && ignored) {
    findings.Error("FP8 weights that are listed as unquantized",
                   fmt::format("{} is FP8, but the configuration lists it as unquantized", module));
  } else if (!fp8 && !ignored) {
    findings.Error("unquantized weights that are not listed",
                   fmt::format("{} is {}, but the configuration does not list it as unquantized",
                               module, Name(weight->dtype)));
  }
}

void CheckIgnored(const Inventory& inventory, const ExpectedModel& model, Names ignored,
                  Findings& findings) {
  Names known = {model.outside.lm_head_module};
  for (const ExpectedLayer& layer : model.layers) {
    for (const auto& [name, group] : layer.fused) {
      known.insert(name);
      if (ignored.contains(name)) ignored.insert(group.begin(), group.end());
      const auto listed = std::count_if(group.begin(), group.end(), [&](const std::string& module) {
        return ignored.contains(module);
      });
      if (listed != 0 && listed != static_cast<int64_t>(group.size())) {
        findings.Error(
            "partly listed groups",
            fmt::format("{}: {} of {} parts are listed as unquantized; vLLM loads all or "
                        "none",
                        name, listed, group.size()));
      }
    }
    known.insert(layer.plain.begin(), layer.plain.end());
    for (const std::string& module : layer.linears) {
      known.insert(module);
      CheckModule(module, ignored.contains(module), inventory, findings);
    }
  }
  const InspectedTensor* head = inventory.Find(model.head);
  if (head != nullptr && head->dtype == Dtype::kF8E4M3) {
    findings.Error("FP8 heads", "lm_head is FP8; vLLM never loads it quantized");
  }
  for (const std::string& name : ignored) {
    const bool pattern = name.find_first_of("*?[") != std::string::npos || name.starts_with("re:");
    const bool beside = model.body && inventory.Find(name + ".weight") != nullptr;
    if (!pattern && !beside && !known.contains(name)) {
      findings.Warning("names that match nothing",
                       fmt::format("{} is listed as unquantized, but the model has no such module",
                                   Quoted(name)));
    }
  }
}

// Whatever the configuration lists: vLLM loads the parts of a group into one matrix.
void CheckGroups(const Inventory& inventory, const ExpectedModel& model, Findings& findings) {
  for (const ExpectedLayer& layer : model.layers) {
    for (const FusedModule& group : layer.fused) {
      std::vector<std::string> fp8, other;
      for (const std::string& module : group.parts) {
        const InspectedTensor* weight = inventory.Find(module + ".weight");
        if (weight != nullptr) (weight->dtype == Dtype::kF8E4M3 ? fp8 : other).push_back(module);
      }
      if (fp8.empty() || other.empty()) continue;
      findings.Error("groups that are partly FP8",
                     fmt::format("{} is FP8, but {} is not; vLLM fuses them and takes all or none",
                                 fmt::join(fp8, " and "), fmt::join(other, " and ")));
    }
  }
}

bool HasRegularExpression(const Names& names) {
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.starts_with("re:"); });
}

void CheckUnquantized(const Inventory& inventory, Findings& findings) {
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (tensor.dtype != Dtype::kF8E4M3) continue;
    findings.Error(kConfigKind, fmt::format("tensor {} is F8_E4M3, but config.json has no {}",
                                            Quoted(tensor.name), kConfig));
    break;
  }
}

}  // namespace

std::string QuantMethod(const Json& config) {
  const Json* quantization = OptionalObject(config, kConfig, "config.json");
  if (quantization == nullptr) return "";
  return OptionalString(*quantization, "quant_method", kConfig).value_or("unknown");
}

void CheckQuantization(const Inventory& inventory, const ExpectedModel* model, Findings& findings) {
  Promise promise;
  bool names_known = false;
  try {
    const std::string method = QuantMethod(inventory.config);
    const Json* config = OptionalObject(inventory.config, kConfig, "config.json");
    if (method.empty()) {
      CheckUnquantized(inventory, findings);
    } else if (method == "quark") {
      promise = ReadQuark(*config, findings);
      names_known = !HasRegularExpression(promise.ignored);
    } else if (method.find("fp8") != std::string::npos) {
      promise = ReadFp8(*config, findings);
      names_known = true;
    } else {
      findings.Warning("limits", fmt::format("quant_method {} is not checked, only tensors and "
                                             "scales are",
                                             Quoted(method)));
    }
  } catch (const Error& error) {
    findings.Error(kConfigKind, error.what());
  }
  CheckScales(inventory, promise.activation, findings);
  if (model == nullptr) return;
  if (names_known) CheckIgnored(inventory, *model, promise.ignored, findings);
  CheckGroups(inventory, *model, findings);
  CheckKvScales(inventory, *model, promise.kv, findings);
}

}  // namespace narrow
