#include "kernels/column_maximum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/every_target.h"

namespace narrow {
namespace {

TEST(ColumnMaximumTest, FindsTheLargestMagnitudeOfEveryColumnOnEveryTarget) {
  const int64_t rows = 9, columns = 133;
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(rows * columns));
  std::vector<Bfloat16> narrow_x;
  for (float& value : x) {
    value = ToFloat(ToBfloat16(normal(generator)));
    narrow_x.push_back(ToBfloat16(value));
  }
  std::vector<float> expected(static_cast<std::size_t>(columns), 0.5f);
  for (std::size_t i = 0; i < x.size(); ++i) {
    float& largest = expected[i % static_cast<std::size_t>(columns)];
    largest = std::max(largest, std::fabs(x[i]));
  }
  OnEveryTarget([&] {
    std::vector<float> wide(expected.size(), 0.5f), narrow_maxima(expected.size(), 0.5f);
    IncludeColumnMaxima<float>({x.data(), rows, columns}, wide);
    IncludeColumnMaxima<Bfloat16>({narrow_x.data(), rows, columns}, narrow_maxima);
    EXPECT_EQ(wide, expected);
    EXPECT_EQ(narrow_maxima, expected);
  });
}

TEST(ColumnMaximumTest, NanAndInfinityStay) {
  const float infinity = std::numeric_limits<float>::infinity();
  const int64_t columns = 70;
  std::vector<float> x(3 * columns, 1.0f);
  x[5] = std::nanf("");
  x[static_cast<std::size_t>(columns + 6)] = -infinity;
  x[static_cast<std::size_t>(columns + 69)] = -std::nanf("");
  OnEveryTarget([&] {
    std::vector<float> maxima(columns, 0.0f);
    IncludeColumnMaxima<float>({x.data(), 3, columns}, maxima);
    EXPECT_TRUE(std::isnan(maxima[5]));
    EXPECT_EQ(maxima[6], infinity);
    EXPECT_TRUE(std::isnan(maxima[69]));
    EXPECT_EQ(maxima[7], 1.0f);
  });
}

}  // namespace
}  // namespace narrow
