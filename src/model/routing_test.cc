#include "model/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace narrow {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::Pointwise;

struct Chosen {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Chosen Choose(const Routing& routing, const std::vector<float>& logits, std::size_t count,
              const std::vector<float>& correction = {}) {
  Chosen chosen{std::vector<int32_t>(count), std::vector<float>(count)};
  ChooseExperts(routing, logits, correction, chosen.experts, chosen.weights);
  return chosen;
}

void ExpectWeights(const Chosen& chosen, const std::vector<float>& expected) {
  EXPECT_THAT(chosen.weights, Pointwise(FloatNear(1e-6f), expected));
}

float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// exp of these is 1, 2, 3, 4.
const std::vector<float> kLogits = {0.0f, std::log(2.0f), std::log(3.0f), std::log(4.0f)};

TEST(Routing, ScoresAreSharesOfAllExpertsOrOfTheChosen) {
  const Chosen all = Choose({}, kLogits, 2);
  EXPECT_THAT(all.experts, ElementsAre(2, 3));
  ExpectWeights(all, {0.3f, 0.4f});
  ExpectWeights(Choose({.renormalized = true}, kLogits, 2), {3.0f / 7, 4.0f / 7});
  ExpectWeights(Choose({.among = Routing::Among::kChosen}, kLogits, 2), {3.0f / 7, 4.0f / 7});
  ExpectWeights(Choose({.renormalized = true, .scale = 2.5f}, kLogits, 1), {2.5f});
}

TEST(Routing, ACorrectionChangesTheChoiceAlone) {
  const Routing routing = {.scores = Routing::Scores::kSigmoid};
  const Chosen chosen = Choose(routing, {1.0f, 0.0f, -1.0f}, 2, {-1.0f, 0.0f, 0.5f});
  EXPECT_THAT(chosen.experts, ElementsAre(1, 2));
  ExpectWeights(chosen, {Sigmoid(0.0f), Sigmoid(-1.0f)});
}

TEST(Routing, GroupsAreChosenByTheirTwoBest) {
  const Routing routing = {.scores = Routing::Scores::kSigmoid, .groups = 2, .chosen_groups = 1};
  // The best expert is in the first group, the better pair in the second.
  EXPECT_THAT(Choose(routing, {3.0f, -3.0f, 1.0f, 1.5f}, 2).experts, ElementsAre(2, 3));
  EXPECT_THAT(Choose(routing, {3.0f, 0.5f, 1.0f, -3.0f}, 1).experts, ElementsAre(0));
}

TEST(Routing, OfEqualScoresTheFirstCount) {
  EXPECT_THAT(Choose({}, {1.0f, 2.0f, 2.0f, 2.0f}, 2).experts, ElementsAre(1, 2));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Choose({}, {nan, nan, nan}, 2).experts, ElementsAre(0, 1));
}

TEST(ActivateMlp, ClampsGateAndUp) {
  MlpBlock mlp;
  mlp.width = 3;
  mlp.clamped = ClampedGate{1.702f, 7.0f};
  const std::vector<float> gate_up = {1.0f, 100.0f, -100.0f, 0.5f, 9.0f, -9.0f};
  std::vector<float> out(3);
  ActivateMlp(mlp, MatrixView<const float>(gate_up.data(), 1, 6),
              MatrixView<float>(out.data(), 1, 3));
  EXPECT_THAT(out, Pointwise(FloatNear(1e-5f),
                             std::vector<float>{Sigmoid(1.702f) * 1.5f,
                                                7.0f * Sigmoid(1.702f * 7) * 8.0f, 0.0f}));
}

}  // namespace
}  // namespace narrow
