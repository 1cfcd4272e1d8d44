#include "base/checked_math.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace narrow {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

TEST(CheckedMath, MultipliesUpToTheLimit) {
  EXPECT_EQ(CheckedMultiply(0, kMax), 0);
  EXPECT_EQ(CheckedMultiply(1, kMax), kMax);
  EXPECT_EQ(CheckedMultiply(int64_t{1} << 31, int64_t{1} << 31), int64_t{1} << 62);
  EXPECT_EQ(CheckedMultiply(int64_t{1} << 32, int64_t{1} << 31), std::nullopt);
  EXPECT_EQ(CheckedMultiply(2, kMax / 2 + 1), std::nullopt);
}

TEST(CheckedMath, AddsUpToTheLimit) {
  EXPECT_EQ(CheckedAdd(kMax, 0), kMax);
  EXPECT_EQ(CheckedAdd(kMax - 1, 1), kMax);
  EXPECT_EQ(CheckedAdd(kMax, 1), std::nullopt);
}

TEST(CheckedMath, RefusesNegativeNumbers) {
  EXPECT_EQ(CheckedMultiply(-1, 1), std::nullopt);
  EXPECT_EQ(CheckedMultiply(-1, -1), std::nullopt);
  EXPECT_EQ(CheckedMultiply(0, kMin), std::nullopt);
  EXPECT_EQ(CheckedAdd(5, -1), std::nullopt);
}

TEST(CheckedMath, ProductOfDimensions) {
  EXPECT_EQ(CheckedProduct({}), 1);
  EXPECT_EQ(CheckedProduct(std::array<int64_t, 3>{2, 3, 4}), 24);
  EXPECT_EQ(CheckedProduct(std::array<int64_t, 3>{kMax, 2, 0}), std::nullopt);
  EXPECT_EQ(CheckedProduct(std::array<int64_t, 2>{0, kMax}), 0);
  EXPECT_EQ(CheckedProduct(std::array<int64_t, 2>{4, -1}), std::nullopt);
}

TEST(CheckedMath, RoundsUp) {
  EXPECT_EQ(DivideRoundUp(0, 8), 0);
  EXPECT_EQ(DivideRoundUp(1, 8), 1);
  EXPECT_EQ(DivideRoundUp(8, 8), 1);
  EXPECT_EQ(RoundUp(9, 8), 16);
  EXPECT_EQ(RoundUp(16, 8), 16);
}

}  // namespace
}  // namespace narrow
