#include "quantization/kept_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelSource Tiny() {
  const Json config = PresetConfig("tiny");
  ModelSource model;
  model.family = &FindModelFamily(config, "preset");
  model.config = model.family->parse_config(config, "preset");
  return model;
}

// Layers of which the parts have these errors: q/k/v, o, gate/up, down, cache.
std::vector<LayerFacts> Layers(std::vector<std::array<double, 5>> errors) {
  std::vector<LayerFacts> layers;
  for (const auto& e : errors) {
    layers.emplace_back().errors = LayerErrors{{e[0], e[1], e[2], e[3]}, e[4], 0.0};
  }
  return layers;
}

// Groups without names for layers with errors as above.
std::vector<LayerGroup> Groups(int64_t layers) {
  std::vector<LayerGroup> groups;
  for (int64_t i = 0; i < layers; ++i) {
    for (const LinearGroup group : kLinearGroups) groups.push_back({i, group, {}, 1, 0.0, 0.0});
  }
  return groups;
}

std::vector<std::pair<int64_t, int>> Places(const KeptGroups& kept) {
  std::vector<std::pair<int64_t, int>> places;
  for (const LayerGroup& group : kept.groups) {
    places.emplace_back(group.layer, static_cast<int>(group.group));
  }
  return places;
}

TEST(QuantizedGroups, AreFourOfALayerWithTheBytesTheyWouldAdd) {
  const ModelSource model = Tiny();
  const std::vector<LayerGroup> groups = QuantizedGroups(model, {});
  ASSERT_EQ(std::ssize(groups), 4 * model.config.layers);
  EXPECT_EQ(groups[0].modules.size(), 3u);
  EXPECT_EQ(groups[7].modules, std::vector<std::string>{"model.layers.1.mlp.down_proj"});
  // bf16 instead of codes: a byte more for each weight, and two scales of four bytes less.
  EXPECT_EQ(groups[7].extra_bytes, model.config.hidden * model.config.intermediate - 8);
  const std::vector<LayerGroup> fewer = QuantizedGroups(model, {"model.layers.1.mlp.down_proj"});
  EXPECT_EQ(fewer.size(), groups.size() - 1);
  EXPECT_EQ(LargestExtraBytes(groups, 1), 2 * model.config.hidden * model.config.intermediate - 16);
  EXPECT_EQ(LargestExtraBytes(groups, 0), 0);
}

TEST(CheckKeepRequest, RefusesMoreThanThereIs) {
  EXPECT_NO_THROW(CheckKeepRequest({8, std::nullopt}, Groups(2)));
  EXPECT_THROW(CheckKeepRequest({9, std::nullopt}, Groups(2)), Error);
}

TEST(KeepWorst, TakesTheLargestErrorsAndOfEqualOnesTheEarlier) {
  const std::vector<LayerFacts> layers = Layers({{1, 2, 3, 3, 4}, {3, 0, 5, 1, 10}});
  const KeptGroups kept = KeepWorst(Groups(2), layers, 4);
  EXPECT_THAT(Places(kept),
              ElementsAre(std::pair(1, 2), std::pair(0, 2), std::pair(0, 3), std::pair(1, 0)));
  EXPECT_DOUBLE_EQ(kept.groups[0].share, 5.0 / 32.0);  // of all parts, the cache included
  EXPECT_EQ(kept.extra_bytes(), 4);
}

// Errors of groups: 4, 3, 2, 1, and 0 for the rest; 10 in all.
TEST(KeepForKl, KeepsAsFewAsTheErrorsSay) {
  const std::vector<LayerFacts> layers = Layers({{4, 3, 0, 0, 0}, {2, 1, 0, 0, 0}});
  const MeasuredKl measured = {1.0, 0.0};
  const KeptGroups none = KeepForKl(Groups(2), layers, measured, 1.0);
  EXPECT_TRUE(none.groups.empty());
  EXPECT_EQ(none.kl_predicted, 1.0);
  const KeptGroups one = KeepForKl(Groups(2), layers, measured, 0.6);
  EXPECT_THAT(Places(one), ElementsAre(std::pair(0, 0)));
  EXPECT_DOUBLE_EQ(*one.kl_predicted, 0.6);
  EXPECT_EQ(one.kl_without, 1.0);
  EXPECT_EQ(KeepForKl(Groups(2), layers, measured, 0.59).groups.size(), 2u);
  EXPECT_DOUBLE_EQ(*KeepForKl(Groups(2), layers, measured, 0.2).kl_predicted, 0.1);
}

// A fifth of the KL is the cache's, whatever its share of the errors.
TEST(KeepForKl, TheCacheStays) {
  const std::vector<LayerFacts> layers = Layers({{4, 3, 2, 1, 30}});
  const KeptGroups kept = KeepForKl(Groups(1), layers, {1.0, 0.2}, 0.6);
  EXPECT_EQ(kept.groups.size(), 2u);
  EXPECT_DOUBLE_EQ(*kept.kl_predicted, 0.2 + 0.8 * 0.3);
  // Without an attribution it is its share of the errors: three quarters.
  EXPECT_DOUBLE_EQ(*KeepForKl(Groups(1), layers, {1.0, std::nullopt}, 0.95).kl_predicted, 0.9);
  try {
    KeepForKl(Groups(1), layers, {1.0, std::nullopt}, 0.7);
    FAIL() << "0.75 remains";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("0.7500 would remain"));
  }
}

}  // namespace
}  // namespace narrow
