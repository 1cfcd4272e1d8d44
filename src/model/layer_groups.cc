#include "model/layer_groups.h"

#include <algorithm>

#include "base/error.h"

namespace narrow {

std::vector<GroupSpec> GroupsOf(const LayerSpec& layer) {
  std::vector<GroupSpec> groups;
  for (auto first = layer.linears.begin(); first != layer.linears.end();) {
    const auto end = std::find_if(first, layer.linears.end(), [&](const LinearSpec& linear) {
      return linear.group != first->group;
    });
    GroupSpec& group =
        groups.emplace_back(GroupSpec{first->group, {first, end}, 0, first->columns});
    for (const LinearSpec& linear : group.linears) group.rows += linear.rows;
    first = end;
  }
  return groups;
}

bool HasGroup(const LayerSpec& layer, LinearGroup id) {
  return std::ranges::find(layer.linears, id, &LinearSpec::group) != layer.linears.end();
}

GroupSpec GroupOf(const LayerSpec& layer, LinearGroup id) {
  const std::vector<GroupSpec> groups = GroupsOf(layer);
  const auto group = std::ranges::find(groups, id, &GroupSpec::id);
  NARROW_CHECK(group != groups.end());
  return *group;
}

std::optional<std::pair<const LinearSpec*, const LinearSpec*>> FindMixedGroup(
    const LayerSpec& layer, const std::function<bool(const LinearSpec&)>& is) {
  for (const GroupSpec& group : GroupsOf(layer)) {
    for (const LinearSpec& linear : group.linears) {
      if (is(linear) != is(group.linears.front()))
        return std::pair(&group.linears.front(), &linear);
    }
  }
  return std::nullopt;
}

int64_t LayerWeightCount(const LayerSpec& layer) {
  int64_t count = 0;
  for (const LinearSpec& linear : layer.linears) count += linear.rows * linear.columns;
  return count;
}

}  // namespace narrow
