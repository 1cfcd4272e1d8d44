#include "kernels/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/every_target.h"

namespace narrow {
namespace {

using testing::ElementsAre;

std::vector<float> RandomLogits(std::size_t count, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0.0f, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = distribution(random);
  return logits;
}

double DirectLogSumExp(const std::vector<float>& logits) {
  const auto top = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  return top + std::log(sum);
}

double DirectKl(const std::vector<float>& original, const std::vector<float>& variant) {
  const double lse = DirectLogSumExp(original), variant_lse = DirectLogSumExp(variant);
  double kl = 0.0;
  for (std::size_t i = 0; i < original.size(); ++i) {
    const double log_p = static_cast<double>(original[i]) - lse;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(variant[i]) - variant_lse));
  }
  return kl;
}

struct Comparison {
  TokenLogits original, variant;
  CrossTerm cross_term;
  double kl() const { return KlDivergence(original, variant, cross_term); }
};

Comparison Compare(const std::vector<float>& original, const std::vector<float>& variant,
                   std::size_t slice) {
  Comparison result;
  std::vector<float> exponentials(slice);
  for (std::size_t i = 0; i < original.size(); i += slice) {
    const std::size_t count = std::min(slice, original.size() - i);
    const auto first = static_cast<int64_t>(i);
    const std::span<const float> part = std::span(original).subspan(i, count);
    const std::span<const float> variant_part = std::span(variant).subspan(i, count);
    AccumulateLogits(part, first, result.original, std::span(exponentials).first(count));
    AccumulateLogits(variant_part, first, result.variant, {});
    AccumulateCrossTerm(part, std::span(exponentials).first(count),
                        result.original.normalizer.maximum, variant_part, result.cross_term);
  }
  return result;
}

// Relative error of an f32 exponential: 2^-23 (1 + |x| / 1.6) without fused multiply-add, of those
// that weigh in a sum (x > -4).
constexpr double kTolerance = 4.0e-7;

TEST(DivergenceKernels, MatchF64ForAnySlice) {
  for (const std::size_t count : {1u, 5u, 63u, 1025u, 5003u}) {
    const auto original = RandomLogits(count, 4.0f, 1);
    auto variant = RandomLogits(count, 0.4f, 2);
    for (std::size_t i = 0; i < count; ++i) variant[i] += original[i];
    OnEveryTarget([&] {
      for (const std::size_t slice : {std::size_t{1}, std::size_t{37}, std::size_t{1024}, count}) {
        const Comparison found = Compare(original, variant, slice);
        EXPECT_NEAR(Value(found.original.normalizer), DirectLogSumExp(original), kTolerance);
        EXPECT_NEAR(Value(found.variant.normalizer), DirectLogSumExp(variant), kTolerance);
        EXPECT_NEAR(found.kl(), DirectKl(original, variant), kTolerance);
      }
    });
  }
}

TEST(DivergenceKernels, EqualLogitsDivergeByExactlyZero) {
  const auto logits = RandomLogits(3001, 6.0f, 3);
  OnEveryTarget([&] {
    for (const std::size_t slice : {std::size_t{7}, std::size_t{500}, std::size_t{3001}}) {
      const Comparison found = Compare(logits, logits, slice);
      EXPECT_EQ(found.kl(), 0.0);
      EXPECT_EQ(Value(found.original.normalizer), Value(found.variant.normalizer));
    }
  });
}

TEST(DivergenceKernels, ExponentialsAreRelativeToTheMaximumSoFar) {
  const std::vector<float> first = {1.0f, 3.0f, 2.0f}, second = {4.0f, 0.0f};
  OnEveryTarget([&] {
    TokenLogits state;
    std::vector<float> exponentials(3);
    AccumulateLogits(first, 0, state, exponentials);
    EXPECT_EQ(state.normalizer.maximum, 3.0f);
    EXPECT_NEAR(exponentials[0], std::exp(-2.0), 1.0e-7);
    EXPECT_EQ(exponentials[1], 1.0f);
    exponentials.resize(2);
    AccumulateLogits(second, 3, state, exponentials);
    EXPECT_EQ(exponentials[0], 1.0f);
    EXPECT_NEAR(exponentials[1], std::exp(-4.0), 1.0e-8);
  });
}

TEST(DivergenceKernels, TopTokensLikeAStableSort) {
  std::vector<float> logits = RandomLogits(2003, 5.0f, 4);
  for (float& logit : logits) logit = std::round(logit);  // many ties
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  OnEveryTarget([&] {
    for (const std::size_t slice : {std::size_t{3}, std::size_t{129}, std::size_t{2003}}) {
      const TopTokens top = Compare(logits, logits, slice).original.top;
      EXPECT_THAT(top.tokens, ElementsAre(order[0], order[1], order[2], order[3], order[4]));
      for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(top.logits[i], logits[static_cast<std::size_t>(order[i])]);
      }
    }
  });
}

TEST(DivergenceKernels, FewLogitsLeavePlacesEmpty) {
  OnEveryTarget([] {
    TokenLogits state;
    AccumulateLogits(std::vector<float>{-2.0f, 5.0f}, 10, state, {});
    EXPECT_THAT(state.top.tokens, ElementsAre(11, 10, -1, -1, -1));
  });
}

TEST(DivergenceKernels, ExtremeLogitsStayFinite) {
  const std::vector<float> up = {1.0e4f, -1.0e4f, 0.0f, 9.99e3f};
  const std::vector<float> down = {-1.0e4f, 1.0e4f, 0.0f, 9.99e3f};
  OnEveryTarget([&] {
    for (const std::size_t slice : {std::size_t{1}, std::size_t{4}}) {
      const double expected = DirectKl(up, down);
      EXPECT_NEAR(Compare(up, down, slice).kl(), expected, 1.0e-6 * expected);
      EXPECT_EQ(Compare(up, up, slice).kl(), 0.0);
    }
  });
}

TEST(DivergenceKernels, NanStays) {
  std::vector<float> logits = RandomLogits(200, 1.0f, 5);
  const std::vector<float> sound = logits;
  logits[70] = std::nanf("");
  OnEveryTarget([&] {
    EXPECT_TRUE(std::isnan(Compare(logits, sound, 64).kl()));
    EXPECT_TRUE(std::isnan(Compare(sound, logits, 64).kl()));
  });
}

}  // namespace
}  // namespace narrow
