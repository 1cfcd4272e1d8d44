#include "device/compensation/rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "base/parallel.h"
#include "kernels/feedback.h"
#include "kernels/float8.h"

namespace narrow {
namespace {

using Codes = std::vector<std::byte>;
using Square = std::vector<std::vector<double>>;

struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<float> values;
  MatrixView<const float> view() const { return {values.data(), rows, columns}; }
};

Matrix RandomWeights(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  Matrix w{rows, columns, std::vector<float>(rows * columns)};
  for (float& value : w.values) value = normal(generator);
  return w;
}

// Every column is a mixture of a few shared signals and its own noise. All inputs are small
// integers, so f32 sums of their products are exact.
Matrix CorrelatedInputs(int64_t tokens, int64_t columns, unsigned seed) {
  constexpr int kSignals = 5;
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int> level(-3, 3), noise(-1, 1);
  std::vector<int> mix(kSignals * columns);
  for (int& value : mix) value = noise(generator);
  Matrix x{tokens, columns, std::vector<float>(tokens * columns)};
  for (int64_t t = 0; t < tokens; ++t) {
    int signal[kSignals];
    for (int& value : signal) value = level(generator);
    for (int64_t c = 0; c < columns; ++c) {
      int value = noise(generator);
      for (int s = 0; s < kSignals; ++s) value += mix[s * columns + c] * signal[s];
      x.values[t * columns + c] = static_cast<float>(value);
    }
  }
  return x;
}

CompensationFactor Factor(const Matrix& x, int64_t block_columns = 0, double damping = 0.01) {
  HessianAccumulator hessian(x.columns, block_columns);
  hessian.Add(x.view());
  return CompensationFactor(std::move(hessian), damping);
}

float ScaleOf(const Matrix& w) {
  return FindAbsoluteMaximum(std::span<const float>(w.values)).amax / kFloat8E4M3Max;
}

struct Rounded {
  Codes codes;
  CompensatedRounding result;
};
Rounded Round(const CompensationFactor& factor, const Matrix& w, float scale) {
  Rounded rounded{Codes(w.values.size()), {}};
  rounded.result = RoundCompensated(factor, w.view(), scale, rounded.codes);
  return rounded;
}

Codes Nearest(const Matrix& w, float scale) {
  std::vector<Float8E4M3> codes(w.values.size());
  QuantizeFloat8(std::span<const float>(w.values), scale, codes);
  Codes bytes(codes.size());
  std::ranges::transform(codes, bytes.begin(), [](Float8E4M3 c) { return std::byte{c.bits}; });
  return bytes;
}

double Decoded(std::byte code, float scale) {
  return static_cast<double>(ToFloat(Float8E4M3{static_cast<uint8_t>(code)})) * scale;
}

// sum over tokens and rows of the squared change of x w^T.
double OutputError(const Matrix& x, const Matrix& w, const Codes& codes, float scale) {
  double total = 0.0;
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t r = 0; r < w.rows; ++r) {
      double change = 0.0;
      for (int64_t c = 0; c < x.columns; ++c) {
        const int64_t i = r * w.columns + c;
        change += x.values[t * x.columns + c] * (w.values[i] - Decoded(codes[i], scale));
      }
      total += change * change;
    }
  }
  return total;
}

// U upper triangular with U^T U = inverse(H + lambda I), columns of H as `order` says: as the paper
// has it, by Gauss-Jordan and the textbook factorization.
Square InverseFactor(const Matrix& x, const std::vector<int64_t>& order, const Square& h,
                     double lambda) {
  const int64_t n = x.columns;
  Square work(n, std::vector<double>(2 * n, 0.0));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) work[i][j] = h[order[i]][order[j]] + (i == j ? lambda : 0.0);
    work[i][n + i] = 1.0;
  }
  for (int64_t p = 0; p < n; ++p) {
    const double pivot = work[p][p];
    for (double& value : work[p]) value /= pivot;
    for (int64_t i = 0; i < n; ++i) {
      const double factor = work[i][p];
      if (i == p || factor == 0.0) continue;
      for (int64_t j = 0; j < 2 * n; ++j) work[i][j] -= factor * work[p][j];
    }
  }
  Square u(n, std::vector<double>(n, 0.0));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      double sum = work[i][n + j];
      for (int64_t k = 0; k < i; ++k) sum -= u[k][i] * u[k][j];
      u[i][j] = i == j ? std::sqrt(sum) : sum / u[i][i];
    }
  }
  return u;
}

Square HessianOf(const Matrix& x) {
  Square h(x.columns, std::vector<double>(x.columns, 0.0));
  for (int64_t t = 0; t < x.rows; ++t) {
    const float* row = x.values.data() + t * x.columns;
    for (int64_t i = 0; i < x.columns; ++i) {
      for (int64_t j = 0; j < x.columns; ++j) h[i][j] += static_cast<double>(row[i]) * row[j];
    }
  }
  return h;
}

// GPTQ column by column in f64, compared with `codes` row by row up to the first difference, which
// has to be a tie as far as f32 can tell. Returns the number of rows with a difference.
int64_t CompareWithReference(const Matrix& x, const Matrix& w, const Codes& codes, float scale) {
  const int64_t n = x.columns;
  const Square h = HessianOf(x);
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return h[a][a] > h[b][b]; });
  double mean = 0.0;
  for (int64_t i = 0; i < n; ++i) mean += h[i][i] / static_cast<double>(n);
  const Square u = InverseFactor(x, order, h, 0.01 * mean);
  int64_t different = 0;
  for (int64_t r = 0; r < w.rows; ++r) {
    std::vector<double> row(n);
    for (int64_t i = 0; i < n; ++i) row[i] = w.values[r * n + order[i]];
    for (int64_t i = 0; i < n; ++i) {
      const double target = row[i] / scale;
      const Float8E4M3 code = ToFloat8E4M3(static_cast<float>(target));
      const std::byte found = codes[r * n + order[i]];
      const double q = ToFloat(code) * static_cast<double>(scale);
      if (std::byte{code.bits} != found) {
        const double middle = 0.5 * (q + Decoded(found, scale)) / scale;
        EXPECT_NEAR(target, middle, 1e-4 * std::abs(middle) + 1e-6) << "row " << r << ", " << i;
        ++different;
        break;
      }
      const double error = (row[i] - q) / u[i][i];
      for (int64_t j = i; j < n; ++j) row[j] -= error * u[i][j];
    }
  }
  return different;
}

TEST(CompensationTest, CodesAreThoseOfTheDirectAlgorithm) {
  for (const int64_t columns : {1, 40, 130, 300}) {
    SCOPED_TRACE(columns);
    const Matrix x = CorrelatedInputs(900, columns, 1);
    const Matrix w = RandomWeights(150, columns, 2);
    const float scale = ScaleOf(w);
    const Rounded rounded = Round(Factor(x), w, scale);
    EXPECT_LE(CompareWithReference(x, w, rounded.codes, scale), 3);
  }
}

TEST(CompensationTest, ReportedErrorsAreThoseOfTheOutputs) {
  const Matrix x = CorrelatedInputs(400, 200, 3);
  const Matrix w = RandomWeights(20, 200, 4);
  const float scale = ScaleOf(w);
  const Rounded rounded = Round(Factor(x), w, scale);
  const double error = OutputError(x, w, rounded.codes, scale);
  const double nearest = OutputError(x, w, Nearest(w, scale), scale);
  EXPECT_NEAR(rounded.result.error, error, 1e-3 * error);
  EXPECT_NEAR(rounded.result.nearest_error, nearest, 1e-4 * nearest);
  EXPECT_LT(error, 0.6 * nearest);
}

TEST(CompensationTest, DiagonalHessianRoundsToNearest) {
  const int64_t columns = 270;
  Matrix x{columns, columns, std::vector<float>(columns * columns, 0.0f)};
  for (int64_t i = 0; i < columns; ++i)
    x.values[i * columns + i] = 1.0f + static_cast<float>(i % 7);
  Matrix w = RandomWeights(131, columns, 5);
  w.values[17] = -0.0f;
  const float scale = ScaleOf(w);
  const Rounded rounded = Round(Factor(x), w, scale);
  EXPECT_EQ(rounded.codes, Nearest(w, scale));
  EXPECT_EQ(rounded.result.error, rounded.result.nearest_error);
}

TEST(CompensationTest, CodesDoNotDependOnTheNumberOfThreads) {
  const Matrix x = CorrelatedInputs(600, 420, 6);
  const Matrix w = RandomWeights(300, 420, 7);
  const float scale = ScaleOf(w);
  std::vector<Rounded> results;
  for (const int threads : {1, 2, 3}) {
    SetThreadCount(threads);
    results.push_back(Round(Factor(x), w, scale));
  }
  SetThreadCount(0);
  for (const Rounded& rounded : results) {
    EXPECT_EQ(rounded.codes, results[0].codes);
    EXPECT_EQ(rounded.result.error, results[0].result.error);
    EXPECT_EQ(rounded.result.nearest_error, results[0].result.nearest_error);
  }
}

// Tokens that touch the first half of the columns only, or (louder) the second half only.
TEST(CompensationTest, BlocksAreExactForABlockDiagonalHessian) {
  const int64_t half = 128;
  const Matrix a = CorrelatedInputs(300, half, 8), b = CorrelatedInputs(300, half, 9);
  Matrix x{600, 2 * half, std::vector<float>(600 * 2 * half, 0.0f)};
  for (int64_t t = 0; t < 300; ++t) {
    for (int64_t c = 0; c < half; ++c) {
      x.values[t * 2 * half + c] = a.values[t * half + c];
      x.values[(300 + t) * 2 * half + half + c] = 8.0f * b.values[t * half + c];
    }
  }
  const Matrix w = RandomWeights(70, 2 * half, 10);
  const float scale = ScaleOf(w);
  const CompensationFactor blocks = Factor(x, half);
  ASSERT_EQ(blocks.blocks().size(), 2u);
  const Rounded full = Round(Factor(x), w, scale), split = Round(blocks, w, scale);
  int64_t different = 0;
  for (std::size_t i = 0; i < full.codes.size(); ++i) different += full.codes[i] != split.codes[i];
  EXPECT_LE(different, std::ssize(full.codes) / 1000);  // ties in f32
  EXPECT_NEAR(split.result.error, full.result.error, 1e-3 * full.result.error);
}

TEST(CompensationTest, BlocksLoseOnlyPartOfTheGain) {
  const Matrix x = CorrelatedInputs(1000, 256, 11);
  const Matrix w = RandomWeights(60, 256, 12);
  const float scale = ScaleOf(w);
  const Rounded full = Round(Factor(x), w, scale), split = Round(Factor(x, 64), w, scale);
  const double error = OutputError(x, w, split.codes, scale);
  EXPECT_LT(full.result.error, error);
  EXPECT_LT(error, 0.8 * full.result.nearest_error);
}

TEST(CompensationTest, DeadColumnsAreRoundedToNearestAndMoveNoOther) {
  const int64_t live = 128, columns = 160;
  const Matrix small = CorrelatedInputs(500, live, 13);
  const Matrix w = RandomWeights(40, columns, 14);
  const float scale = ScaleOf(w);
  // Columns 5k are dead.
  Matrix x{500, columns, std::vector<float>(500 * columns, 0.0f)};
  Matrix small_w{40, live, std::vector<float>(40 * live)};
  for (int64_t c = 0, next = 0; c < columns; ++c) {
    if (c % 5 == 0) continue;
    for (int64_t t = 0; t < 500; ++t) x.values[t * columns + c] = small.values[t * live + next];
    for (int64_t r = 0; r < 40; ++r) small_w.values[r * live + next] = w.values[r * columns + c];
    ++next;
  }
  const CompensationFactor factor = Factor(x);
  EXPECT_EQ(factor.dead_columns(), columns - live);
  const Codes codes = Round(factor, w, scale).codes, nearest = Nearest(w, scale);
  const Codes expected = Round(Factor(small), small_w, scale).codes;
  Codes found;
  for (int64_t i = 0; i < std::ssize(codes); ++i) {
    if (i % columns % 5 == 0) {
      ASSERT_EQ(codes[i], nearest[i]) << i;
    } else {
      found.push_back(codes[i]);
    }
  }
  EXPECT_EQ(found, expected);
}

TEST(CompensationTest, FewerTokensThanColumns) {
  const Matrix x = CorrelatedInputs(20, 200, 15);
  const Matrix w = RandomWeights(30, 200, 16);
  const float scale = ScaleOf(w);
  const CompensationFactor factor = Factor(x);
  EXPECT_EQ(factor.damping(), 0.01);
  const Rounded rounded = Round(factor, w, scale);
  EXPECT_LT(OutputError(x, w, rounded.codes, scale), 0.3 * rounded.result.nearest_error);
}

TEST(CompensationTest, ConstantInputsKeepTheSumOfARow) {
  const Matrix x{100, 150, std::vector<float>(100 * 150, 2.0f)};
  const Matrix w = RandomWeights(30, 150, 17);
  const float scale = ScaleOf(w);
  const Rounded rounded = Round(Factor(x), w, scale);
  EXPECT_LT(OutputError(x, w, rounded.codes, scale), 0.05 * rounded.result.nearest_error);
}

TEST(CompensationTest, InputsOfZeroRoundToNearest) {
  const Matrix x{10, 90, std::vector<float>(900, 0.0f)};
  const Matrix w = RandomWeights(30, 90, 18);
  const CompensationFactor factor = Factor(x);
  EXPECT_EQ(factor.dead_columns(), 90);
  const Rounded rounded = Round(factor, w, ScaleOf(w));
  EXPECT_EQ(rounded.codes, Nearest(w, ScaleOf(w)));
  EXPECT_EQ(rounded.result.error, 0.0);
}

TEST(CompensationTest, WeightsOfZeroStayZero) {
  const Matrix x = CorrelatedInputs(100, 90, 19);
  const Matrix w{30, 90, std::vector<float>(30 * 90, 0.0f)};
  const Rounded rounded = Round(Factor(x), w, 0x1p-23f);
  EXPECT_EQ(rounded.codes, Codes(30 * 90));
  EXPECT_EQ(rounded.result.error, 0.0);
  EXPECT_EQ(rounded.result.saturated, 0);
}

TEST(CompensationTest, DampingIsRaisedUntilTheMatrixIsPositiveDefinite) {
  // Rank 3 and inputs whose products f32 cannot hold: rounding alone makes eigenvalues negative.
  std::mt19937 generator(20);
  std::normal_distribution<float> normal;
  const int64_t tokens = 3, columns = 200;
  Matrix x{tokens, columns, std::vector<float>(tokens * columns)};
  for (float& value : x.values) value = normal(generator);
  const CompensationFactor factor = Factor(x, 0, 1e-12);
  EXPECT_GT(factor.damping(), 1e-12);
  EXPECT_LT(factor.damping(), 1e-3);
  const Matrix w = RandomWeights(30, columns, 21);
  const Rounded rounded = Round(factor, w, ScaleOf(w));
  for (const std::byte code : rounded.codes) EXPECT_NE(code & std::byte{0x7F}, std::byte{0x7F});
  EXPECT_LT(OutputError(x, w, rounded.codes, ScaleOf(w)), rounded.result.nearest_error);
}

TEST(CompensationTest, CountsSaturation) {
  const Matrix x{4, 4, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}};
  const Matrix w{1, 4, {500.0f, -448.0f, -449.0f, 1.0f}};
  const Rounded rounded = Round(Factor(x), w, 1.0f);
  EXPECT_EQ(rounded.result.saturated, 2);
  EXPECT_EQ(rounded.codes[0], std::byte{0x7E});
  EXPECT_EQ(rounded.codes[2], std::byte{0xFE});
}

TEST(CompensationTest, RefusesInputsThatAreNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), 1e30f, std::numeric_limits<float>::infinity()}) {
    Matrix x = CorrelatedInputs(50, 80, 22);
    x.values[33 * 80 + 7] = bad;
    try {
      Factor(x);
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNumeric);
      EXPECT_NE(std::string(error.what()).find("column 7;"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace narrow
