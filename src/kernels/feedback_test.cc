#include "kernels/feedback.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/every_target.h"

namespace narrow {
namespace {

AlignedBuffer<float> Random(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  AlignedBuffer<float> buffer(count);
  for (float& value : buffer.span()) value = normal(generator);
  return buffer;
}

TEST(FeedbackTest, SumMatchesF64OnEveryTarget) {
  const int64_t lanes = 2 * kFeedbackLanes, count = 37;
  const AlignedBuffer<float> factors = Random(count, 1), errors = Random(count * lanes, 2);
  OnEveryTarget([&] {
    AlignedBuffer<float> sum = Random(lanes, 3);
    const AlignedBuffer<float> before = Random(lanes, 3);
    AddFeedback(factors.span(), {errors.data(), count, lanes}, sum.span());
    for (int64_t r = 0; r < lanes; ++r) {
      double expected = before[r];
      for (int64_t j = 0; j < count; ++j) {
        expected += static_cast<double>(factors[j]) * errors[j * lanes + r];
      }
      ASSERT_NEAR(sum[r], expected, 2e-5) << r;
    }
  });
}

TEST(FeedbackTest, ZeroCorrectionKeepsTheWeightBitForBit) {
  const int64_t lanes = kFeedbackLanes;
  AlignedBuffer<float> weights = Random(lanes, 4), correction = Random(lanes, 5), target(lanes);
  weights[3] = -0.0f;
  correction[3] = 0.0f;
  OnEveryTarget([&] {
    AddCorrection(weights.span(), correction.span(), target.span());
    EXPECT_TRUE(std::signbit(target[3]));
    for (int64_t r = 0; r < lanes; ++r) ASSERT_EQ(target[r], weights[r] + correction[r]) << r;
  });
}

TEST(FeedbackTest, MeasuresErrorsAndSquaresOnEveryTarget) {
  const int64_t lanes = kFeedbackLanes;
  const AlignedBuffer<float> w = Random(lanes, 6), correction = Random(lanes, 7),
                             codes = Random(lanes, 8);
  OnEveryTarget([&] {
    AlignedBuffer<float> errors(lanes), weighted = Random(lanes, 9), squares = Random(lanes, 10);
    const AlignedBuffer<float> weighted_before = Random(lanes, 9), before = Random(lanes, 10);
    MeasureRounding(w.span(), correction.span(), codes.span(), 0.25f, 3.0f, errors.span(),
                    weighted.span(), squares.span());
    for (int64_t r = 0; r < lanes; ++r) {
      const double error = w[r] - 0.25 * codes[r];
      const double compensated = error + correction[r];
      ASSERT_NEAR(errors[r], error, 1e-6) << r;
      ASSERT_NEAR(squares[r], before[r] + error * error, 1e-5) << r;
      ASSERT_NEAR(weighted[r], weighted_before[r] + 3.0 * compensated * compensated, 5e-5) << r;
    }
  });
}

}  // namespace
}  // namespace narrow
