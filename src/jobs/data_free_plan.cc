#include "jobs/data_free_plan.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"

namespace narrow {
namespace {

using Location = CheckpointReader::TensorLocation;

// The order of the files, so that they are read from front to back.
std::vector<const Location*> InFileOrder(const CheckpointReader& checkpoint) {
  std::vector<const Location*> tensors;
  for (const Location& location : checkpoint.tensors()) tensors.push_back(&location);
  std::map<const ByteSource*, std::string> names;
  for (const Location* location : tensors) {
    names.try_emplace(location->file, location->file->path().string());
  }
  std::ranges::sort(tensors, {}, [&](const Location* location) {
    return std::tuple(std::string_view(names.at(location->file)), location->entry.begin);
  });
  return tensors;
}

WeightRule RuleOf(const SchemeFormat& format, const LinearScheme& scheme, bool exact_quotient) {
  WeightRule rule = format.rule(scheme);
  if (exact_quotient && rule.code.quotient == Quotient::kStored) {
    rule.code.quotient = Quotient::kExact;
  }
  return rule;
}

// Three pieces are under way: one is read, one encoded, one written.
int64_t MemoryOf(const DataFreePlan& plan) {
  int64_t piece = 0, kept = 0;
  for (const PlannedItem& item : plan.items) {
    piece = std::max(piece, std::min(kPieceBytes, item.source_bytes()));
    for (const PlannedWeight& weight : item.weights) {
      const SafetensorsEntry& entry = weight.source->entry;
      piece = std::max(piece, weight.encoder.band_rows() * entry.bytes() / entry.shape[0]);
    }
    if (item.needs_maximum() && item.source_bytes() <= kKeptUnitBytes) {
      kept = std::max(kept, item.source_bytes());
    }
  }
  return 3 * 2 * piece + 2 * kept;
}

}  // namespace

int64_t PlannedItem::source_bytes() const {
  if (copied != nullptr) return copied->entry.bytes();
  int64_t bytes = 0;
  for (const PlannedWeight& weight : weights) bytes += weight.source->entry.bytes();
  return bytes;
}

bool PlannedItem::needs_maximum() const {
  return std::ranges::any_of(
      weights, [](const PlannedWeight& weight) { return weight.encoder.NeedsMaximum(); });
}

std::vector<TensorSpec> DataFreePlan::Tensors(const PlannedItem& item) {
  std::vector<TensorSpec> tensors;
  if (item.copied != nullptr) {
    const SafetensorsEntry& entry = item.copied->entry;
    tensors.push_back({entry.name, entry.dtype, entry.shape});
  }
  for (const PlannedWeight& weight : item.weights) {
    for (const PartTensor& part : weight.parts) tensors.push_back(part.tensor);
  }
  return tensors;
}

std::vector<TensorSpec> DataFreePlan::Tensors() const {
  std::vector<TensorSpec> all;
  for (const PlannedItem& item : items) {
    for (TensorSpec& tensor : Tensors(item)) all.push_back(std::move(tensor));
  }
  return all;
}

DataFreePlan MakeDataFreePlan(const CheckpointReader& checkpoint, const ModuleChoices& choices,
                              const SchemeFormat& format, bool exact_quotient) {
  std::map<std::string, const ModuleChoice*> quantized;  // by name of the tensor
  for (const ModuleChoice& choice : choices.modules) {
    if (choice.quantized()) quantized.emplace(choice.linear.module + ".weight", &choice);
  }
  DataFreePlan plan;
  std::map<std::string, std::size_t> units;  // with a global scale: place in plan.items
  for (const Location* location : InFileOrder(checkpoint)) {
    plan.source_bytes += location->entry.bytes();
    const auto found = quantized.find(location->entry.name);
    if (found == quantized.end()) {
      plan.items.push_back({location, {}});
      continue;
    }
    const ModuleChoice& choice = *found->second;
    const LinearScheme& scheme = *choice.scheme;
    PlannedWeight weight{
        location,
        WeightEncoder(location->entry.name, scheme.weight, RuleOf(format, scheme, exact_quotient),
                      choice.linear.type, choice.linear.rows, choice.linear.columns),
        format.tensors(choice.linear, scheme)};
    if (scheme.weight.scale == ScaleFormat::kE4M3WithGlobal) {
      const auto [unit, added] = units.try_emplace(choice.unit, plan.items.size());
      if (!added) {
        plan.items[unit->second].weights.push_back(std::move(weight));
        continue;
      }
    }
    PlannedItem item;
    item.weights.push_back(std::move(weight));
    plan.items.push_back(std::move(item));
  }
  for (const TensorSpec& tensor : plan.Tensors()) plan.output_bytes += tensor.bytes();
  plan.memory_bytes = MemoryOf(plan);
  return plan;
}

}  // namespace narrow
