#include "model/layer_groups.h"

#include <gtest/gtest.h>

#include "model/family.h"

namespace narrow {
namespace {

// Llama 3.1 8B, whose layer has 218,103,808 weights in matrices: (8,030,261,248 of the model card -
// 2 * 128256 * 4096 - 65 norms of 4096) / 32.
LayerSpec Layer8B() {
  DecoderConfig config;
  config.hidden = 4096;
  config.intermediate = 14336;
  config.heads = {32, 8, 128};
  return ModelFamilies().front().layer(config, 0);
}

TEST(LayerGroups, CountTheWeightsOfTheModelCard) {
  const LayerSpec layer = Layer8B();
  EXPECT_EQ(LayerWeightCount(layer),
            (int64_t{8'030'261'248} - 2 * 128'256 * 4'096 - 65 * 4'096) / 32);
  EXPECT_EQ(LinearFlopsPerToken(layer), 2 * LayerWeightCount(layer));
}

TEST(LayerGroups, EveryLinearIsInItsGroupOnce) {
  const LayerSpec layer = Layer8B();
  const std::vector<GroupSpec> groups = GroupsOf(layer);
  ASSERT_EQ(groups.size(), kLinearGroups.size());
  std::size_t linears = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    EXPECT_EQ(groups[g].id, kLinearGroups[g]);
    int64_t rows = 0;
    for (const LinearSpec& linear : groups[g].linears) {
      EXPECT_EQ(&linear, &layer.linears[linears++]);
      EXPECT_EQ(linear.group, groups[g].id);
      EXPECT_EQ(linear.columns, groups[g].columns);
      rows += linear.rows;
    }
    EXPECT_EQ(rows, groups[g].rows);
  }
  EXPECT_EQ(linears, layer.linears.size());
  EXPECT_EQ(GroupOf(layer, LinearGroup::kQueryKeyValue).rows, 6144);
  EXPECT_EQ(GroupOf(layer, LinearGroup::kGateUp).elements(), 2 * 14336 * 4096);
  EXPECT_EQ(GroupOf(layer, LinearGroup::kDown).columns, 14336);
}

TEST(LayerGroups, OneLinearUnlikeTheOthersOfItsGroupIsFound) {
  const LayerSpec layer = Layer8B();
  for (const LinearSpec& odd : layer.linears) {
    const auto mixed = FindMixedGroup(layer, [&](const LinearSpec& l) { return &l == &odd; });
    ASSERT_EQ(mixed.has_value(), GroupOf(layer, odd.group).linears.size() > 1) << odd.module;
    if (!mixed) continue;
    EXPECT_EQ(mixed->first, &GroupOf(layer, odd.group).linears.front());
    EXPECT_EQ(mixed->first->group, mixed->second->group);
    EXPECT_NE(mixed->first == &odd, mixed->second == &odd);
  }
  for (const LinearGroup group : kLinearGroups) {
    EXPECT_FALSE(FindMixedGroup(layer, [&](const LinearSpec& l) { return l.group == group; }));
  }
}

TEST(LayerGroups, AFamilyMayLackOne) {
  LayerSpec layer = Layer8B();
  std::erase_if(layer.linears, [](const LinearSpec& linear) {
    return linear.group == LinearGroup::kAttentionOutput;
  });
  EXPECT_EQ(GroupsOf(layer).size(), kLinearGroups.size() - 1);
  EXPECT_EQ(GroupsOf(layer)[1].id, LinearGroup::kGateUp);
  EXPECT_THROW(GroupOf(layer, LinearGroup::kAttentionOutput), Error);
}

}  // namespace
}  // namespace narrow
