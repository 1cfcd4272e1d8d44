#include "quantization/scheme.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace narrow {
namespace {

// Whatever the largest magnitude, the scale covers it, with less than a power of two to spare.
TEST(Scheme, PowersOfTwoCoverTheRange) {
  const QuantizationScheme& scheme = FindQuantizationScheme("fp8");
  std::mt19937 generator(2);
  std::normal_distribution<float> normal;
  std::vector<float> magnitudes(500);
  for (float& value : magnitudes) value = std::exp(6.0f * normal(generator));
  for (int exponent = -30; exponent <= 30; ++exponent) {
    const float exact = std::ldexp(448.0f, exponent);
    EXPECT_EQ(scheme.power_of_two_scale(exact), std::ldexp(1.0f, exponent));
    magnitudes.insert(magnitudes.end(),
                      {exact, std::nextafter(exact, 0.0f), std::nextafter(exact, INFINITY)});
  }
  for (const float amax : magnitudes) {
    const float scale = scheme.power_of_two_scale(amax);
    ASSERT_LE(amax, scale * 448.0f) << amax;
    ASSERT_GT(amax, scale * 223.9f) << amax;
    int exponent = 0;
    ASSERT_EQ(std::frexp(scale, &exponent), 0.5f) << amax;
  }
  EXPECT_EQ(scheme.power_of_two_scale(0.0f), 0x1p-23f);
  EXPECT_EQ(scheme.power_of_two_scale(0x1p-149f), 0x1p-126f);
}

// The reciprocal of every scale is finite, as who divides by it expects.
TEST(Scheme, NoScaleIsZeroOrSubnormal) {
  const QuantizationScheme& scheme = FindQuantizationScheme("fp8");
  for (float amax = 0x1p-149f; amax < 0x1p-100f; amax *= 1.5f) {
    if (amax < 0x1p-148f) amax = 0x1p-148f;  // 1.5 times the smallest number is itself or twice it
    ASSERT_GE(scheme.scale(amax), 0x1p-126f) << amax;
    ASSERT_LE(amax, scheme.scale(amax) * 448.0f * 1.0000002f) << amax;
    ASSERT_GE(scheme.power_of_two_scale(amax), 0x1p-126f) << amax;
  }
}

}  // namespace
}  // namespace narrow
