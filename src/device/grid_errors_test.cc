#include "device/grid_errors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/parallel.h"

namespace narrow {
namespace {

std::vector<float> Random(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

TEST(GridErrorsTest, SumsDependNeitherOnThreadsNorOnCalls) {
  const int64_t rows = 50, channels = 200;
  const std::vector<float> x = Random(rows * channels, 1);
  const MatrixView<const float> all(x.data(), rows, channels);
  SetThreadCount(1);
  GridErrors one(channels);
  one.Add(all);
  SetThreadCount(4);
  GridErrors other(channels);
  other.Add(all.RowBlock(0, 7));
  other.Add(all.RowBlock(7, rows - 7));
  SetThreadCount(0);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t p = 0; p < kGridPhases; ++p) {
      ASSERT_EQ(one.Error(p, c), other.Error(p, c)) << p << " " << c;
      ASSERT_EQ(one.Spread(p, c), other.Spread(p, c)) << p << " " << c;
    }
  }
}

TEST(GridErrorsTest, AConstantHasErrorsButNoSpread) {
  const std::vector<float> constant(64, 1.06f);
  GridErrors errors(1);
  errors.Add(MatrixView<const float>(constant.data(), 64, 1));
  EXPECT_NEAR(errors.Error(kNeutralPhase, 0), 64 * 0.06 * 0.06, 1e-4);
  EXPECT_NEAR(errors.Spread(kNeutralPhase, 0), 0.0, 1e-6);
}

// The best factor brings a constant nearer to the grid than a factor of 1.
TEST(GridErrorsTest, TheBestPhaseMovesAConstantToTheGrid) {
  const std::vector<float> constant(8, 1.0625f);  // half way between 1 and 1.125
  GridErrors errors(1);
  errors.Add(MatrixView<const float>(constant.data(), 8, 1));
  const int64_t phase = BestPhase([&](int64_t p) { return errors.Error(p, 0); });
  EXPECT_NE(phase, kNeutralPhase);
  EXPECT_LT(errors.Error(phase, 0), 0.05 * errors.Error(kNeutralPhase, 0));
}

TEST(GridErrorsTest, WithoutRowsNothingIsScaled) {
  const GridErrors errors(3);
  EXPECT_EQ(BestPhase([&](int64_t p) { return errors.Error(p, 1); }), kNeutralPhase);
  EXPECT_EQ(GridPhaseFactor(kNeutralPhase), 1.0f);
}

}  // namespace
}  // namespace narrow
