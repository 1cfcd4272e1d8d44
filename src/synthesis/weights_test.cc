#include "synthesis/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "io/scratch_directory.h"
#include "synthesis/random.h"

namespace narrow {
namespace {

constexpr uint64_t kSeed = 7;

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Deviation(const std::vector<double>& values) {
  const double mean = Mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

std::vector<double> Logarithms(std::vector<double> values) {
  for (double& value : values) value = std::log(value);
  return values;
}

// Root mean squares of the rows and columns of a tensor.
struct Sizes {
  std::vector<double> rows;
  std::vector<double> columns;
  double all = 0;
};

std::vector<double> Row(const WeightGenerator& generator, int64_t row) {
  std::vector<Bfloat16> stored(static_cast<std::size_t>(generator.columns()));
  generator.FillRow(row, stored);
  std::vector<double> values;
  for (const Bfloat16 value : stored) values.push_back(ToFloat(value));
  return values;
}

Sizes Measure(const TensorToFill& tensor) {
  const WeightGenerator generator(tensor, kSeed);
  Sizes sizes;
  sizes.columns.resize(static_cast<std::size_t>(generator.columns()));
  for (int64_t r = 0; r < generator.rows(); ++r) {
    const std::vector<double> row = Row(generator, r);
    double sum = 0;
    for (std::size_t c = 0; c < row.size(); ++c) {
      sum += row[c] * row[c];
      sizes.columns[c] += row[c] * row[c];
    }
    sizes.rows.push_back(std::sqrt(sum / static_cast<double>(row.size())));
    sizes.all += sum;
  }
  for (double& column : sizes.columns) {
    column = std::sqrt(column / static_cast<double>(generator.rows()));
  }
  sizes.all = std::sqrt(sizes.all / static_cast<double>(generator.rows() * generator.columns()));
  return sizes;
}

TensorToFill Matrix(int64_t rows, int64_t columns) {
  return {TensorSpec{"m.weight", Dtype::kBF16, {rows, columns}}};
}

TensorToFill Norm(const std::string& name, int64_t size) {
  TensorToFill tensor{TensorSpec{name, Dtype::kBF16, {size}}, TensorKind::kNorm};
  tensor.output_place = name;
  return tensor;
}

TEST(Random, SumsOfUniformNumbersHaveTheirMoments) {
  const RandomWords words(3);
  constexpr int kCount = 1 << 20;
  double first = 0, second = 0, fourth = 0, largest = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = NormalNumber(words[i]);
    first += value;
    second += value * value;
    fourth += value * value * value * value;
    largest = std::max(largest, std::abs(value));
  }
  EXPECT_NEAR(first / kCount, 0.0, 0.005);  // 5 standard errors
  EXPECT_NEAR(second / kCount, 1.0, 0.007);
  EXPECT_NEAR(fourth / kCount, 2.7, 0.04);  // 3 - 6/5/4
  EXPECT_LT(largest, 3.4642);               // 2 sqrt(3)
  EXPECT_EQ(NormalSum(0), -131070);
  EXPECT_EQ(NormalSum(~uint64_t{0}), 131070);
}

TEST(Random, KeysAndPositionsGiveDifferentWords) {
  std::set<uint64_t> seen;
  for (uint64_t key = 0; key < 64; ++key) {
    const RandomWords words(DeriveKey(kSeed, key));
    for (uint64_t i = 0; i < 1024; ++i) seen.insert(words[i]);
  }
  EXPECT_EQ(seen.size(), 64u * 1024u);
  EXPECT_NE(DeriveKey(1, "a"), DeriveKey(2, "a"));
  EXPECT_NE(DeriveKey(1, "a"), DeriveKey(1, "b"));
}

TEST(Weights, RowsAndColumnsOfAMatrixDiffer) {
  const Sizes sizes = Measure(Matrix(1500, 2000));
  EXPECT_NEAR(Deviation(Logarithms(sizes.rows)), 0.3, 0.03);
  EXPECT_NEAR(Deviation(Logarithms(sizes.columns)), 0.2, 0.02);
  const double level = sizes.all * std::sqrt(2000.0);  // a factor of this tensor, spread 0.2
  EXPECT_GT(level, std::exp(-0.8));
  EXPECT_LT(level, std::exp(0.8));
}

TEST(Weights, TensorsOfDifferentNamesAndSeedsDiffer) {
  TensorToFill other = Matrix(2, 64);
  other.spec.name = "n.weight";
  const WeightGenerator generator(Matrix(2, 64), kSeed);
  EXPECT_EQ(Row(generator, 0), Row(WeightGenerator(Matrix(2, 64), kSeed), 0));
  EXPECT_NE(Row(generator, 0), Row(generator, 1));
  EXPECT_NE(Row(generator, 0), Row(WeightGenerator(other, kSeed), 0));
  EXPECT_NE(Row(generator, 0), Row(WeightGenerator(Matrix(2, 64), kSeed + 1), 0));
}

TEST(Weights, GainScalesEveryWeight) {
  TensorToFill half = Matrix(1, 512);
  half.gain = 0.5;
  const std::vector<double> full_row = Row(WeightGenerator(Matrix(1, 512), kSeed), 0);
  const std::vector<double> half_row = Row(WeightGenerator(half, kSeed), 0);
  for (std::size_t i = 0; i < full_row.size(); ++i) EXPECT_EQ(half_row[i], 0.5 * full_row[i]);
}

TEST(Weights, EmbeddingsHaveTheUsualSize) {
  TensorToFill embedding = Matrix(3000, 512);
  embedding.kind = TensorKind::kEmbedding;
  const Sizes sizes = Measure(embedding);
  EXPECT_NEAR(sizes.all, 0.02, 0.001);
  EXPECT_NEAR(Deviation(Logarithms(sizes.rows)), 0.3, 0.03);
}

TEST(Weights, BiasesAreSmall) {
  TensorToFill bias{TensorSpec{"m.bias", Dtype::kBF16, {20000}}, TensorKind::kBias};
  const std::vector<double> values = Row(WeightGenerator(bias, kSeed), 0);
  EXPECT_NEAR(Mean(values), 0.0, 0.001);
  EXPECT_NEAR(Deviation(values), 0.02, 0.001);
}

TEST(Weights, NormsLieAroundOneButForTheirOutliers) {
  constexpr int64_t kSize = 8192;
  const std::vector<double> values = Row(WeightGenerator(Norm("a", kSize), kSeed), 0);
  std::vector<double> ordinary;
  int64_t outliers = 0;
  for (const double value : values) {
    if (value > 5) {
      ++outliers;
      EXPECT_GT(value, 10 * std::exp(-0.4));
      EXPECT_LT(value, 20 * std::exp(0.4));
    } else {
      ordinary.push_back(value);
    }
  }
  EXPECT_EQ(outliers, kSize / 1024);
  EXPECT_NEAR(Mean(ordinary), 1.0, 0.01);
  EXPECT_NEAR(Deviation(Logarithms(ordinary)), 0.1, 0.005);
}

TEST(Weights, OutliersSitInTheSameChannelsOfEveryPlace) {
  const std::vector<OutlierChannel> first = OutlierChannels(kSeed, "a", 16384);
  const std::vector<OutlierChannel> second = OutlierChannels(kSeed, "b", 16384);
  ASSERT_EQ(first.size(), 16u);
  ASSERT_EQ(second.size(), 16u);
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].channel, second[i].channel);
    EXPECT_NE(first[i].factor, second[i].factor);
    EXPECT_GE(first[i].factor, 10.0f);
    EXPECT_LE(first[i].factor, 20.0f);
  }
  EXPECT_EQ(OutlierChannels(kSeed, "a", 1).size(), 1u);
}

// The columns that read an outlier channel are smaller by the factor by which the channel is
// larger.
TEST(Weights, ColumnsMatchTheOutliersTheyRead) {
  TensorToFill reader = Matrix(64, 4096);
  const WeightGenerator plain(reader, kSeed);
  reader.input_place = std::string("a");
  const WeightGenerator matched(reader, kSeed);
  std::vector<double> factors(4096, 1.0);
  for (const OutlierChannel& outlier : OutlierChannels(kSeed, "a", 4096)) {
    factors[static_cast<std::size_t>(outlier.channel)] = outlier.factor;
  }
  for (int64_t r = 0; r < 64; ++r) {
    const std::vector<double> expected = Row(plain, r);
    const std::vector<double> found = Row(matched, r);
    for (std::size_t c = 0; c < expected.size(); ++c) {
      EXPECT_NEAR(found[c] * factors[c], expected[c], std::abs(expected[c]) / 128);  // 2 roundings
    }
  }
}

TEST(Weights, RowsMakeTheOutliersOfTheirPlace) {
  TensorToFill maker = Matrix(4096, 64);
  const Sizes plain = Measure(maker);
  maker.output_place = std::string("a");
  const Sizes larger = Measure(maker);
  std::vector<double> factors(4096, 1.0);
  for (const OutlierChannel& outlier : OutlierChannels(kSeed, "a", 4096)) {
    factors[static_cast<std::size_t>(outlier.channel)] = outlier.factor;
  }
  for (std::size_t r = 0; r < factors.size(); ++r) {
    EXPECT_NEAR(larger.rows[r] / plain.rows[r], factors[r], factors[r] / 100);
  }
}

TEST(Weights, RefusesWhatItCannotFill) {
  const auto refuse = [](const TensorToFill& tensor, std::string_view fragment) {
    ExpectError(ErrorCode::kInvalidArgument, fragment, [&] { WeightGenerator(tensor, kSeed); });
  };
  TensorToFill other = Matrix(2, 2);
  other.spec.dtype = Dtype::kF32;
  refuse(other, "only BF16 can be filled, found F32");
  refuse(Matrix(0, 4), "expected [rows, columns]");
  refuse(Matrix(int64_t{1} << 40, int64_t{1} << 40), "cannot fill shape");
  refuse(Matrix(1, int64_t{1} << 40), "cannot fill shape");
  other = Matrix(2, 2);
  other.kind = TensorKind::kNorm;
  refuse(other, "expected [size]");
  other = Matrix(2, 2);
  other.gain = NAN;
  refuse(other, "not finite");
}

}  // namespace
}  // namespace narrow
