#include "quantization/head_basis/key_basis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/parallel.h"
#include "quantization/scheme.h"

namespace narrow {
namespace {

constexpr AttentionHeads kHeads = {4, 2, 16};
constexpr int64_t kHalf = kHeads.head_size / 2;
constexpr int64_t kTokens = 300;

// Queries and keys of `kTokens` tokens with offsets of their own in each channel, as slow pairs of
// real models have.
struct Texts {
  std::vector<float> queries, keys;

  explicit Texts(unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, int64_t width) {
      std::vector<float> offsets(static_cast<std::size_t>(width));
      for (float& offset : offsets) offset = 3.0f * normal(generator);
      for (int64_t i = 0; i < kTokens * width; ++i) {
        values.push_back(offsets[static_cast<std::size_t>(i % width)] + 0.5f * normal(generator));
      }
    };
    fill(queries, kHeads.query_heads * kHeads.head_size);
    fill(keys, kHeads.key_value_heads * kHeads.head_size);
  }

  MatrixView<const float> Queries() const {
    return {queries.data(), kTokens, kHeads.query_heads * kHeads.head_size};
  }
  MatrixView<const float> Keys() const {
    return {keys.data(), kTokens, kHeads.key_value_heads * kHeads.head_size};
  }
};

KeyBasis Choose(const Texts& texts) {
  KeyBasisStatistics statistics(kHeads);
  statistics.Add(texts.Queries(), texts.Keys());
  return statistics.Choose();
}

KeyBasis Neutral() {
  const auto pairs = static_cast<std::size_t>(kHeads.key_value_heads * kHalf);
  return {std::vector<float>(pairs, 1.0f), std::vector<float>(pairs, 1.0f),
          std::vector<float>(pairs, 0.0f)};
}

float RoundToGrid(float value) {
  std::byte code;
  const QuantizationScheme& scheme = FindQuantizationScheme("fp8");
  scheme.quantize(std::span(&value, 1), 1.0f, std::span(&code, 1));
  scheme.decode(std::span<const std::byte>(&code, 1), std::span(&value, 1));
  return value;
}

// Mean over queries and key-value heads of the variance over keys of the error of the scores.
double ScoreError(const Texts& texts, const KeyBasis& basis) {
  const int64_t sharing = kHeads.query_heads / kHeads.key_value_heads;
  double total = 0.0;
  for (int64_t head = 0; head < kHeads.query_heads; ++head) {
    const int64_t key_head = head / sharing;
    for (int64_t t = 0; t < kTokens; t += 10) {
      const float* q = texts.Queries().Row(t) + head * kHeads.head_size;
      double sum = 0.0, squares = 0.0;
      for (int64_t s = 0; s < kTokens; ++s) {
        const float* k = texts.Keys().Row(s) + key_head * kHeads.head_size;
        double error = 0.0;
        for (int64_t i = 0; i < kHalf; ++i) {
          const auto pair = static_cast<std::size_t>(key_head * kHalf + i);
          float k1 = k[i], k2 = k[i + kHalf], q1 = q[i], q2 = q[i + kHalf];
          const float f = basis.factors[pair];
          TurnPair(basis.cosines[pair], basis.sines[pair], f, k1, k2);
          TurnPair(basis.cosines[pair], basis.sines[pair], 1.0f / f, q1, q2);
          error += q1 * (RoundToGrid(k1) - k1) + q2 * (RoundToGrid(k2) - k2);
        }
        sum += error;
        squares += error * error;
      }
      total += (squares - sum * sum / kTokens) / kTokens;
    }
  }
  return total;
}

// As FP8 rounds, not as the sums estimate.
TEST(KeyBasisTest, ChosenBasisLowersTheErrorOfScores) {
  double chosen = 0.0, neutral = 0.0;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    const Texts texts(seed);
    chosen += ScoreError(texts, Choose(texts));
    neutral += ScoreError(texts, Neutral());
  }
  EXPECT_LT(chosen, 0.7 * neutral);
}

// Only a turn helps a pair whose keys and queries lie on the same axis.
TEST(KeyBasisTest, PairOnOneAxisIsTurnedByHalfAQuarter) {
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  Texts texts(1);
  const auto align = [&](std::vector<float>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const bool first = static_cast<int64_t>(i) % kHeads.head_size < kHalf;
      values[i] = first ? normal(generator) : 0.01f * normal(generator);
    }
  };
  align(texts.queries);
  align(texts.keys);
  const KeyBasis basis = Choose(texts);
  for (std::size_t pair = 0; pair < basis.cosines.size(); ++pair) {
    EXPECT_NEAR(std::atan2(basis.sines[pair], basis.cosines[pair]), M_PI / 4, M_PI / 15);
  }
}

TEST(KeyBasisTest, DependsNeitherOnThreadsNorOnCalls) {
  const Texts texts(7);
  SetThreadCount(1);
  const KeyBasis expected = Choose(texts);
  SetThreadCount(3);
  KeyBasisStatistics parts(kHeads);
  for (int64_t first = 0; first < kTokens; first += 70) {
    const int64_t count = std::min<int64_t>(70, kTokens - first);
    parts.Add(texts.Queries().RowBlock(first, count), texts.Keys().RowBlock(first, count));
  }
  const KeyBasis found = parts.Choose();
  SetThreadCount(0);
  EXPECT_EQ(found.factors, expected.factors);
  EXPECT_EQ(found.cosines, expected.cosines);
  EXPECT_EQ(found.sines, expected.sines);
}

TEST(KeyBasisTest, WithoutTokensNothingIsTurned) {
  const KeyBasis basis = KeyBasisStatistics(kHeads).Choose();
  EXPECT_EQ(basis.factors, Neutral().factors);
  EXPECT_EQ(basis.cosines, Neutral().cosines);
  EXPECT_EQ(basis.sines, Neutral().sines);
}

}  // namespace
}  // namespace narrow
