// A layer's linears by the products they run as. Whatever is counted of a layer (memory,
// operations, widths) is a loop over these.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "model/spec.h"

namespace narrow {

// The linears of one group, stacked: a view of the spec, which outlives it.
struct GroupSpec {
  LinearGroup id = LinearGroup::kQueryKeyValue;
  std::span<const LinearSpec> linears;
  int64_t rows = 0;     // outputs of all of them
  int64_t columns = 0;  // inputs, which they share

  int64_t elements() const { return rows * columns; }
};

// The groups of a layer in the order of the forward step.
std::vector<GroupSpec> GroupsOf(const LayerSpec& layer);
std::vector<GroupSpec> GroupsOf(LayerSpec&&) = delete;

// Whether a layer has linears of a group.
bool HasGroup(const LayerSpec& layer, LinearGroup id);

// One of them. REQUIRES: the layer has linears of it.
GroupSpec GroupOf(const LayerSpec& layer, LinearGroup id);
GroupSpec GroupOf(LayerSpec&&, LinearGroup) = delete;

// Linears of a group are fused, so all are treated alike. The first of a group, and one of the same
// group that `is` tells apart from it; nothing where groups are whole.
std::optional<std::pair<const LinearSpec*, const LinearSpec*>> FindMixedGroup(
    const LayerSpec& layer, const std::function<bool(const LinearSpec&)>& is);

// Weights of a layer's linears, in elements.
int64_t LayerWeightCount(const LayerSpec& layer);

// Multiply-adds, counted as two operations each, of a layer's linears for one token.
inline int64_t LinearFlopsPerToken(const LayerSpec& layer) { return 2 * LayerWeightCount(layer); }

}  // namespace narrow
