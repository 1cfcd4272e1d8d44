#include "quantization/head_basis/value_basis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace narrow {
namespace {

constexpr int64_t kSize = 16;

// Second moments of `rank` random vectors of channels of very different size.
std::vector<double> Moments(unsigned seed, int64_t rank = 40) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> sizes, sums(kSize * kSize);
  for (int64_t i = 0; i < kSize; ++i) sizes.push_back(std::exp(normal(generator)));
  for (int64_t t = 0; t < rank; ++t) {
    std::vector<double> x;
    const double common = normal(generator);
    for (int64_t i = 0; i < kSize; ++i) {
      x.push_back((normal(generator) + common) * sizes[static_cast<std::size_t>(i)]);
    }
    for (std::size_t i = 0; i < kSize; ++i) {
      for (std::size_t j = 0; j < kSize; ++j) sums[i * kSize + j] += x[i] * x[j];
    }
  }
  return sums;
}

MatrixView<const double> View(const std::vector<double>& values) {
  return {values.data(), kSize, kSize};
}

HeadMatrices Identity() {
  HeadMatrices identity = {AlignedBuffer<float>(kSize * kSize),
                           AlignedBuffer<float>(kSize * kSize)};
  for (int64_t i = 0; i < kSize * kSize; ++i) {
    identity.matrix[i] = identity.inverse[i] = i % (kSize + 1) == 0 ? 1.0f : 0.0f;
  }
  return identity;
}

void ExpectInverse(const HeadMatrices& basis) {
  for (int64_t i = 0; i < kSize; ++i) {
    for (int64_t j = 0; j < kSize; ++j) {
      double sum = 0.0;
      for (int64_t k = 0; k < kSize; ++k) {
        sum += static_cast<double>(basis.matrix[i * kSize + k]) * basis.inverse[k * kSize + j];
      }
      EXPECT_NEAR(sum, i == j ? 1.0 : 0.0, 1e-4) << i << ", " << j;
    }
  }
}

TEST(ValueBasisTest, InverseIsTheInverse) {
  for (unsigned seed = 0; seed < 10; ++seed) {
    ExpectInverse(BestValueBasis(View(Moments(seed)), View(Moments(seed + 100))));
  }
}

// No basis does better: not the one there is, not factors of channels, not a random mixture.
TEST(ValueBasisTest, ErrorIsLeast) {
  std::mt19937 generator(4);
  std::normal_distribution<float> normal;
  for (unsigned seed = 0; seed < 10; ++seed) {
    const std::vector<double> c = Moments(seed), g = Moments(seed + 100);
    const HeadMatrices best = BestValueBasis(View(c), View(g));
    const double error = ValueBasisError(best, View(c), View(g));
    EXPECT_LT(error, 0.9 * ValueBasisError(Identity(), View(c), View(g)));
    // A step of 1 % anywhere, followed by its inverse to first and second order.
    HeadMatrices moved = BestValueBasis(View(c), View(g));
    const int64_t i = seed, j = (seed + 3) % kSize;
    for (int64_t k = 0; k < kSize; ++k) {
      moved.matrix[i * kSize + k] += 0.05f * best.matrix[j * kSize + k];
      moved.inverse[k * kSize + j] -= 0.05f * best.inverse[k * kSize + i];
    }
    ExpectInverse(moved);
    EXPECT_GT(ValueBasisError(moved, View(c), View(g)), error * (1 - 1e-4));
  }
}

TEST(ValueBasisTest, SumOfMeanSquaresAllButStays) {
  const std::vector<double> c = Moments(1), g = Moments(2);
  const HeadMatrices basis = BestValueBasis(View(c), View(g));
  double before = 0.0, after = 0.0;
  for (int64_t j = 0; j < kSize; ++j) {
    before += c[static_cast<std::size_t>(j * kSize + j)];
    for (int64_t a = 0; a < kSize; ++a) {
      for (int64_t b = 0; b < kSize; ++b) {
        after += static_cast<double>(basis.matrix[j * kSize + a]) * basis.matrix[j * kSize + b] *
                 c[static_cast<std::size_t>(a * kSize + b)];
      }
    }
  }
  EXPECT_NEAR(after / before, 1.0, 0.05);
}

// A head that is never used, or that o does not read; and fewer tokens than channels.
TEST(ValueBasisTest, EmptyAndSingularMomentsGiveFiniteMatrices) {
  const std::vector<double> zero(kSize * kSize), few = Moments(5, 3), many = Moments(6);
  for (const auto* c : {&zero, &few, &many}) {
    for (const auto* g : {&zero, &few, &many}) {
      const HeadMatrices basis = BestValueBasis(View(*c), View(*g));
      for (int64_t i = 0; i < kSize * kSize; ++i) {
        ASSERT_TRUE(std::isfinite(basis.matrix[i]) && std::isfinite(basis.inverse[i]));
      }
    }
  }
}

}  // namespace
}  // namespace narrow
