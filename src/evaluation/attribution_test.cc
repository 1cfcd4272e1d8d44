#include "evaluation/attribution.h"

#include <gtest/gtest.h>

#include <cmath>

namespace narrow {
namespace {

std::vector<TokenOutcome> Outcomes(std::vector<double> nll, double kl) {
  std::vector<TokenOutcome> outcomes;
  for (const double value : nll) {
    TokenOutcome& outcome = outcomes.emplace_back();
    outcome.nll = value;
    outcome.kl = kl;
  }
  return outcomes;
}

// Two windows through three networks; by hand: KL 0.1 and 0.3, then 0.2 and 0.6, then 0.25 and
// 0.65.
TEST(AttributeCost, IsTheDifferenceFromPartToPart) {
  const std::vector<TokenOutcome> first = Outcomes({1.0, 2.0}, 0), second = Outcomes({3.0, 3.0}, 0);
  const std::vector<TokenOutcome> weights[] = {Outcomes({1.5, 2.5}, 0.1),
                                               Outcomes({3.0, 3.0}, 0.3)};
  const std::vector<TokenOutcome> inputs[] = {Outcomes({1.5, 2.5}, 0.2), Outcomes({4.0, 4.0}, 0.6)};
  const std::vector<TokenOutcome> all[] = {Outcomes({1.5, 2.5}, 0.25), Outcomes({3.5, 3.5}, 0.65)};
  const QuantizedPart parts[] = {QuantizedPart::kWeights, QuantizedPart::kInputs,
                                 QuantizedPart::kCache};
  std::vector<DivergenceSummary> networks;
  for (const auto* windows : {weights, inputs, all}) {
    networks.push_back(SummarizeDivergence(
        std::vector<WindowOutcomes>{{first, windows[0]}, {second, windows[1]}}, 0));
  }
  const std::vector<PartCost> costs = AttributeCost(parts, networks);
  ASSERT_EQ(costs.size(), 3u);
  EXPECT_EQ(costs[1].part, QuantizedPart::kInputs);
  EXPECT_DOUBLE_EQ(costs[0].kl.mean, 0.2);
  EXPECT_DOUBLE_EQ(costs[0].kl_added.mean, 0.2);
  EXPECT_DOUBLE_EQ(costs[0].nll_added.mean, 0.25);
  EXPECT_DOUBLE_EQ(costs[1].kl.mean, 0.4);
  EXPECT_DOUBLE_EQ(costs[1].kl_added.mean, 0.2);
  EXPECT_DOUBLE_EQ(costs[1].nll_added.mean, 0.5);
  EXPECT_NEAR(costs[2].kl_added.mean, 0.05, 1e-15);
  // Both windows rise by 0.05: the paired difference knows no noise, the divergences do.
  EXPECT_NEAR(*costs[2].kl_added.standard_error, 0, 1e-15);
  EXPECT_NEAR(*costs[2].kl.standard_error, 0.2, 1e-15);
  EXPECT_DOUBLE_EQ(costs[2].nll_added.mean, -0.25);
  double kl = 0, nll = 0;
  for (const PartCost& cost : costs) {
    kl += cost.kl_added.mean;
    nll += cost.nll_added.mean;
  }
  EXPECT_DOUBLE_EQ(kl, costs[2].kl.mean);
  EXPECT_DOUBLE_EQ(nll, costs[2].nll_increase.mean);
}

}  // namespace
}  // namespace narrow
