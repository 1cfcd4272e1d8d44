#include "evaluation/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"

namespace narrow {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TokenOutcome Outcome(double nll, double kl = 0.0, int overlap = 5) {
  TokenOutcome outcome;
  outcome.nll = nll;
  outcome.kl = kl;
  outcome.top1_agrees = outcome.top1_in_top5 = overlap == 5;
  outcome.top5_overlap = static_cast<int8_t>(overlap);
  return outcome;
}

std::vector<TokenOutcome> Outcomes(const std::vector<double>& nll) {
  std::vector<TokenOutcome> outcomes;
  for (const double value : nll) outcomes.push_back(Outcome(value));
  return outcomes;
}

DivergenceSummary OfKl(const std::vector<double>& kl) {
  std::vector<TokenOutcome> outcomes;
  for (const double value : kl) outcomes.push_back(Outcome(1.0, value));
  const WindowOutcomes window = {outcomes, outcomes};
  return SummarizeDivergence(std::span(&window, 1), 0);
}

TEST(Divergence, TwoWindowsByHand) {
  const auto original_1 = Outcomes({1.0, 3.0}), original_2 = Outcomes({2.0, 2.0});
  auto variant_1 = Outcomes({1.5, 3.5}), variant_2 = Outcomes({2.0, 2.2});
  variant_1[0] = Outcome(1.5, 0.3, 4);
  variant_1[1].kl = 0.1;
  variant_2[1].kl = 0.2;
  variant_2[1].top1_agrees = false;
  const std::vector<WindowOutcomes> windows = {{original_1, variant_1}, {original_2, variant_2}};
  const DivergenceSummary summary = SummarizeDivergence(windows, 2);
  EXPECT_THAT(summary.original_window_nll, ElementsAre(2.0, 2.0));
  EXPECT_EQ(summary.tokens, 4);
  EXPECT_DOUBLE_EQ(summary.original_perplexity, std::exp(2.0));
  EXPECT_DOUBLE_EQ(summary.perplexity, std::exp(2.3));
  // Window means 0.5 and 0.1: deviation 0.2 each, sqrt(0.08 / 2 / 1).
  EXPECT_DOUBLE_EQ(summary.nll_increase.mean, 0.3);
  EXPECT_DOUBLE_EQ(summary.nll_increase.standard_error.value(), 0.2);
  EXPECT_DOUBLE_EQ(summary.kl.mean, 0.15);
  EXPECT_NEAR(summary.kl.standard_error.value(), 0.05, 1.0e-15);
  EXPECT_DOUBLE_EQ(summary.top1_agreement.mean, 0.5);
  EXPECT_DOUBLE_EQ(summary.top1_agreement.standard_error.value(), 0.0);
  EXPECT_DOUBLE_EQ(summary.top1_in_top5.mean, 0.75);
  EXPECT_DOUBLE_EQ(summary.top5_overlap.mean, 0.95);
  ASSERT_EQ(summary.worst.size(), 2u);
  EXPECT_EQ(summary.worst[0].window, 0);
  EXPECT_EQ(summary.worst[0].position, 0);
  EXPECT_DOUBLE_EQ(summary.worst[0].nll_increase, 0.5);
  EXPECT_DOUBLE_EQ(summary.worst[0].kl, 0.3);
  EXPECT_EQ(summary.worst[1].position, 1);  // as much, later in the text
}

TEST(Divergence, ProbabilityOfTheRightTokenByHand) {
  const auto original = Outcomes({std::log(2.0), std::log(4.0)});     // 1/2, 1/4
  const auto variant = Outcomes({std::log(4.0), std::log(8.0 / 3)});  // 1/4, 3/8
  const std::vector<WindowOutcomes> windows = {{original, variant}};
  const DivergenceSummary summary = SummarizeDivergence(windows, 9);
  EXPECT_DOUBLE_EQ(summary.probability_change.mean, -0.0625);
  EXPECT_DOUBLE_EQ(summary.probability_change_rms, std::sqrt((0.0625 + 0.015625) / 2));
  ASSERT_EQ(summary.worst.size(), 1u);  // the other token gained
  EXPECT_DOUBLE_EQ(summary.worst[0].nll_increase, std::log(2.0));
}

// The mean is over the tokens; deviations by hand: 2 * 1/4 * 0.75 and 2 * 3/4 * -0.25.
TEST(Divergence, EveryTokenCountsAlikeInWindowsOfUnequalSize) {
  const auto original_1 = Outcomes({1.0}), original_2 = Outcomes({1.0, 1.0, 1.0});
  const auto variant_1 = Outcomes({2.0}), variant_2 = Outcomes({1.0, 1.0, 1.0});
  const std::vector<WindowOutcomes> windows = {{original_1, variant_1}, {original_2, variant_2}};
  const DivergenceSummary summary = SummarizeDivergence(windows, 0);
  EXPECT_DOUBLE_EQ(summary.nll_increase.mean, 0.25);
  EXPECT_DOUBLE_EQ(summary.nll_increase.standard_error.value(), std::sqrt(2 * 0.375 * 0.375 / 2));
  EXPECT_DOUBLE_EQ(summary.perplexity, std::exp(1.25));
  EXPECT_THAT(summary.window_nll, ElementsAre(2.0, 1.0));
  EXPECT_THAT(summary.window_tokens, ElementsAre(1, 3));
}

TEST(Divergence, OneWindowHasNoStandardError) {
  const DivergenceSummary summary = OfKl({0.25});
  EXPECT_FALSE(summary.kl.standard_error.has_value());
  EXPECT_EQ(summary.kl_median, 0.25);
  EXPECT_EQ(summary.kl_999, 0.25);
  EXPECT_THAT(Verdict(summary), HasSubstr("no estimate of noise"));
}

TEST(Divergence, OrderStatisticsAreValuesNotInterpolations) {
  std::vector<double> values;
  for (int i = 1000; i >= 1; --i) values.push_back(i);
  DivergenceSummary summary = OfKl(values);
  EXPECT_EQ(summary.kl_median, 500.0);
  EXPECT_EQ(summary.kl_99, 990.0);
  EXPECT_EQ(summary.kl_999, 999.0);
  EXPECT_EQ(summary.kl_maximum, 1000.0);
  values.push_back(1001.0);  // ranks 500.5, 990.99 and 999.999 round up
  summary = OfKl(values);
  EXPECT_EQ(summary.kl_median, 501.0);
  EXPECT_EQ(summary.kl_99, 991.0);
  EXPECT_EQ(summary.kl_999, 1000.0);
  EXPECT_EQ(summary.kl_maximum, 1001.0);
}

TEST(Divergence, OrderStatisticsWithTies) {
  const DivergenceSummary summary = OfKl({2.0, 1.0, 2.0, 0.0, 2.0, 1.0, 1.0, 7.0});
  EXPECT_EQ(summary.kl_median, 1.0);
  EXPECT_EQ(summary.kl_99, 7.0);
  EXPECT_EQ(summary.kl_maximum, 7.0);
}

TEST(Divergence, RefusesWhatIsNotFinite) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const auto original = Outcomes({1.0, 1.0}), variant = Outcomes({1.0, bad});
    const std::vector<WindowOutcomes> windows = {{original, variant}};
    try {
      SummarizeDivergence(windows, 0);
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNumeric);
      EXPECT_THAT(error.what(), HasSubstr("window 0, token 1"));
    }
  }
}

DivergenceSummary WithIncrease(double mean, double standard_error, std::size_t windows) {
  DivergenceSummary summary;
  summary.window_nll.resize(windows);
  summary.nll_increase = {mean, standard_error};
  return summary;
}

TEST(Verdict, SaysByHowMuchOrWithinNoise) {
  EXPECT_EQ(Verdict(WithIncrease(0.04946002963659579, 0.0019272092863392286, 24)),
            "loss rises by 0.0495 ± 0.0019 nats per token: perplexity +5.1 %");
  EXPECT_EQ(Verdict(WithIncrease(-0.01, 0.001, 40)),
            "loss falls by 0.0100 ± 0.0010 nats per token: perplexity -1.0 %");
  EXPECT_EQ(Verdict(WithIncrease(0.0019, 0.001, 40)),
            "within noise: loss changes by +0.0019 ± 0.0010 nats per token, perplexity by +0.2 %");
  EXPECT_THAT(Verdict(WithIncrease(0.0021, 0.001, 40)), HasSubstr("loss rises"));
  EXPECT_THAT(Verdict(WithIncrease(0.0, 0.0, 2)), HasSubstr("within noise"));
}

TEST(Verdict, FewWindowsNeedAClearerDifference) {
  EXPECT_EQ(Verdict(WithIncrease(0.012, 0.001, 2)),
            "too few windows (2) to tell it from noise: loss changes by +0.0120 ± 0.0010 nats per "
            "token, perplexity by +1.2 %");
  EXPECT_THAT(Verdict(WithIncrease(0.002, 0.001, 2)), HasSubstr("within noise"));
  EXPECT_THAT(Verdict(WithIncrease(0.013, 0.001, 2)), HasSubstr("loss rises"));
  EXPECT_DOUBLE_EQ(NoiseFactor(8), 2.365);
  EXPECT_DOUBLE_EQ(NoiseFactor(30), 2.045);
  EXPECT_DOUBLE_EQ(NoiseFactor(31), 2.0);
  for (int64_t windows = 2; windows < 40; ++windows) {
    EXPECT_GE(NoiseFactor(windows), NoiseFactor(windows + 1));
  }
}

}  // namespace
}  // namespace narrow
