#include "inspection/scheme_checks.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "formats/quantized_weight.h"
#include "io/checkpoint_reader.h"
#include "model/module_names.h"

namespace narrow {
namespace {

// What belongs to a quantized linear beside its weight.
constexpr std::string_view kParts[] = {
    "weight_packed",     "weight_scale",        "weight_scale_inv", "weight_shape",
    "weight_zero_point", "weight_global_scale", "weight_scale_2",   "input_scale",
    "input_zero_point",  "input_global_scale",  "input_scale_2"};

// The module a tensor is of, when it can be part of a quantized linear; else "".
std::string ModuleOf(const std::string& tensor) {
  const std::size_t dot = tensor.rfind('.');
  if (dot == tensor.npos) return "";
  const std::string_view leaf = std::string_view(tensor).substr(dot + 1);
  if (leaf == "weight" || std::ranges::find(kParts, leaf) != std::end(kParts)) {
    return tensor.substr(0, dot);
  }
  return "";
}

struct Module {
  std::string name;
  bool quantized = false;
  TensorScheme scheme;
  int64_t rows = 0;
  int64_t columns = 0;
  float global = 0.0f;  // of two-level scales
};

class Checker {
 public:
  Checker(const CheckpointReader& checkpoint, const StoredSchemes& schemes, Findings& findings)
      : checkpoint_(checkpoint), schemes_(schemes), findings_(findings) {}

  void Check(const std::string& name) {
    Module module{.name = name, .scheme = {}};
    try {
      const auto weight = QuantizedWeight::Open(checkpoint_, name, schemes_.hints());
      module.quantized = weight.has_value();
      if (weight) {
        module.scheme = weight->scheme();
        module.rows = weight->rows();
        module.columns = weight->columns();
      }
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kIo) throw;
      findings_.Error("weights that cannot be read", error.what());
      return;
    }
    CheckAgainstConfig(module);
    CheckScales(module);
    modules_.emplace(name, module);
  }

  void CheckFused() {
    std::map<std::string, std::vector<std::pair<int, const Module*>>> groups;
    for (const auto& [name, module] : modules_) {
      if (const auto place = FusedPlaceOf(name)) {
        groups[place->fused].emplace_back(place->place, &module);
      }
    }
    for (auto& [fused, members] : groups) {
      std::ranges::sort(members, {}, &std::pair<int, const Module*>::first);
      CheckGroup(fused, members);
    }
  }

  const std::map<std::string, Module>& modules() const { return modules_; }

 private:
  void CheckAgainstConfig(const Module& module) {
    const LinearScheme* said = schemes_.Find(module.name);
    if (!module.quantized) {
      CheckUnquantized(module, said);
      return;
    }
    if (said == nullptr) {
      findings_.Error("quantized weights that are listed as unquantized",
                      fmt::format("{} is {}, but the configuration leaves it unquantized",
                                  module.name, DescribeScheme(module.scheme)));
      return;
    }
    TensorScheme stored = module.scheme;
    stored.timing = said->weight.timing;
    if (stored == said->weight) return;
    findings_.Error("weights in another scheme",
                    fmt::format("{} is {}, but the configuration says {}", module.name,
                                DescribeScheme(stored), DescribeScheme(said->weight)));
  }

  // Embeddings and norms are no linears, whatever the block says of all linears.
  void CheckUnquantized(const Module& module, const LinearScheme* said) {
    const CheckpointReader::TensorLocation* weight = checkpoint_.Find(module.name + ".weight");
    for (const std::string_view part : {"weight_scale", "weight_scale_inv"}) {
      if (checkpoint_.Find(fmt::format("{}.{}", module.name, part)) == nullptr) continue;
      findings_.Error("scales without codes",
                      fmt::format("{} has a {}, but its weight is not quantized; the scale may be "
                                  "uninitialised memory",
                                  module.name, part));
    }
    if (said == nullptr || weight == nullptr || weight->entry.shape.size() != 2) return;
    if (ReasonToStay(module.name, weight->entry.shape[0], checkpoint_.config()) == "embedding") {
      return;
    }
    findings_.Error("unquantized weights that are not listed",
                    fmt::format("{} is {}, but the configuration does not list it as unquantized",
                                module.name, Name(weight->entry.dtype)));
  }

  // Scales are read as numbers by way of the type they have; those of E8M0 are any byte.
  void CheckScales(Module& module) {
    for (const std::string_view part : kParts) {
      const auto* scale = checkpoint_.Find(fmt::format("{}.{}", module.name, part));
      if (scale == nullptr || part.find("scale") == part.npos) continue;
      const std::optional<float> bad =
          FirstBad(*scale, part == "weight_global_scale" ? &module.global : nullptr);
      if (!bad) continue;
      findings_.Error(
          "scales that are not positive",
          fmt::format("{} holds {}, expected positive numbers", Quoted(scale->entry.name), *bad));
    }
  }

  // The first scale that is no positive number. `last`: where to keep the last one.
  std::optional<float> FirstBad(const CheckpointReader::TensorLocation& scale, float* last) const {
    const Dtype type = scale.entry.dtype;
    const bool known = type == Dtype::kF32 || type == Dtype::kBF16 || type == Dtype::kF16 ||
                       type == Dtype::kF8E4M3;
    if (!known) return std::nullopt;
    const std::vector<float> values = ReadScaleNumbers(checkpoint_, scale);
    if (last != nullptr && !values.empty()) *last = values.back();
    for (const float value : values) {
      if (!(std::isfinite(value) && value > 0.0f)) return value;
    }
    return std::nullopt;
  }

  void CheckGroup(const std::string& fused,
                  const std::vector<std::pair<int, const Module*>>& members) {
    const Module& first = *members.front().second;
    for (const auto& [place, member] : members) {
      if (member->quantized != first.quantized) {
        findings_.Error("fused groups that are partly quantized",
                        fmt::format("{}: one of {} and {} is quantized; vLLM refuses this", fused,
                                    first.name, member->name));
        return;
      }
      if (member->quantized && !(member->scheme == first.scheme)) {
        findings_.Error("fused groups in several schemes",
                        fmt::format("{}: {} is {}, {} is {}; vLLM takes the first one's scheme for "
                                    "all, without a word",
                                    fused, first.name, DescribeScheme(first.scheme), member->name,
                                    DescribeScheme(member->scheme)));
        return;
      }
      if (member->global != first.global) {
        findings_.Error("unequal global scales",
                        fmt::format("{}: the global scale of {} is {}, that of {} is {}; vLLM uses "
                                    "the largest for all, and the others' weights are wrong",
                                    fused, first.name, first.global, member->name, member->global));
        return;
      }
    }
    if (first.quantized && first.scheme.block.rows > 1) CheckRows(fused, members);
  }

  void CheckRows(const std::string& fused,
                 const std::vector<std::pair<int, const Module*>>& members) {
    const int64_t block = members.front().second->scheme.block.rows;
    for (std::size_t i = 0; i + (schemes_.blocks_are_checked() ? 1 : 0) < members.size(); ++i) {
      const Module& part = *members[i].second;
      if (part.rows % block == 0) continue;
      findings_.Error(
          "blocks that do not fit fused groups",
          fmt::format("{}: {} has {} rows, no multiple of {}; vLLM {}", fused, part.name, part.rows,
                      block,
                      schemes_.blocks_are_checked() ? "refuses this"
                                                    : "fails on its scales, or misplaces them"));
      return;
    }
  }

  const CheckpointReader& checkpoint_;
  const StoredSchemes& schemes_;
  Findings& findings_;
  std::map<std::string, Module> modules_;
};

}  // namespace

FoundSchemes FindStoredSchemes(const Json& config, Findings& findings) {
  const auto block = config.find("quantization_config");
  if (block == config.end() || !block->is_object()) return {};
  try {
    return {StoredSchemes::Parse(*block), false};
  } catch (const Error& error) {
    findings.Error("configuration errors", error.what());
  }
  return {std::nullopt, true};
}

Inventory CheckSchemes(const std::filesystem::path& directory, const Inventory& inventory,
                       const StoredSchemes& schemes, Findings& findings) {
  std::optional<CheckpointReader> checkpoint;
  try {
    checkpoint.emplace(directory);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kIo) throw;
    return inventory;  // damaged files are findings already
  }
  Checker checker(*checkpoint, schemes, findings);
  std::set<std::string> names;
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (std::string module = ModuleOf(tensor.name); !module.empty())
      names.insert(std::move(module));
  }
  for (const std::string& name : names) checker.Check(name);
  checker.CheckFused();

  Inventory plain = inventory;
  std::erase_if(plain.tensors, [&](const InspectedTensor& tensor) {
    const auto module = checker.modules().find(ModuleOf(tensor.name));
    return module != checker.modules().end() && module->second.quantized;
  });
  for (const auto& [name, module] : checker.modules()) {
    if (!module.quantized) continue;
    InspectedTensor weight;
    weight.name = name + ".weight";
    weight.dtype = Dtype::kBF16;
    weight.shape = {module.rows, module.columns};
    plain.tensors.push_back(std::move(weight));
  }
  std::ranges::sort(plain.tensors, {}, &InspectedTensor::name);
  plain.index.clear();
  for (std::size_t i = 0; i < plain.tensors.size(); ++i) {
    plain.index.emplace(plain.tensors[i].name, i);
  }
  return plain;
}

}  // namespace narrow
