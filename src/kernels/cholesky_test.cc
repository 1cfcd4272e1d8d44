#include "kernels/cholesky.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/parallel.h"
#include "base/ranks.h"
#include "base/socket_ranks.h"
#include "kernels/every_target.h"

namespace narrow {
namespace {

// B B^T + I with random B [n, n]; the strict upper triangle is poisoned.
std::vector<double> PositiveDefinite(int64_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> b(n * n), a(n * n, std::numeric_limits<double>::quiet_NaN());
  for (double& value : b) value = normal(generator);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = i == j ? 1.0 : 0.0;
      for (int64_t k = 0; k < n; ++k) sum += b[i * n + k] * b[j * n + k];
      a[i * n + j] = sum;
    }
  }
  return a;
}

void ExpectFactors(const std::vector<double>& a, const std::vector<double>& l, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0.0;
      for (int64_t k = 0; k <= j; ++k) sum += l[i * n + k] * l[j * n + k];
      ASSERT_NEAR(sum, a[i * n + j], 1e-12 * static_cast<double>(n * n)) << i << ", " << j;
    }
  }
}

TEST(CholeskyTest, ProductOfTheFactorIsTheMatrixOnEveryTarget) {
  OnEveryTarget([] {
    for (const int64_t n : {1, 2, 15, 17, 128, 131, 300}) {
      SCOPED_TRACE(n);
      const std::vector<double> a = PositiveDefinite(n, static_cast<unsigned>(n));
      std::vector<double> l = a;
      ASSERT_TRUE(FactorCholesky({l.data(), n, n}, 1e-3));
      ExpectFactors(a, l, n);
    }
  });
}

TEST(CholeskyTest, LowerTriangleDoesNotDependOnTheNumberOfThreads) {
  const int64_t n = 411;
  const std::vector<double> a = PositiveDefinite(n, 7);
  std::vector<double> one = a;
  SetThreadCount(1);
  ASSERT_TRUE(FactorCholesky({one.data(), n, n}, 1e-3));
  SetThreadCount(3);
  std::vector<double> three = a;
  ASSERT_TRUE(FactorCholesky({three.data(), n, n}, 1e-3));
  SetThreadCount(0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) ASSERT_EQ(one[i * n + j], three[i * n + j]) << i << ", " << j;
  }
}

TEST(CholeskyTest, RanksThatShareTheWorkGetTheSameFactor) {
  SetThreadCount(1);  // processes are forked, threads are not
  for (const int64_t n : {100, 128, 411, 640}) {
    const std::vector<double> a = PositiveDefinite(n, 11);
    std::vector<double> alone = a;
    ASSERT_TRUE(FactorCholesky({alone.data(), n, n}, 1e-3));
    const auto work = [&] {
      std::vector<double> shared = a;
      NARROW_CHECK(FactorCholesky({shared.data(), n, n}, 1e-3, &JobRanks()));
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j <= i; ++j) NARROW_CHECK(shared[i * n + j] == alone[i * n + j]);
      }
      // Not positive definite, which the rank of that row alone sees.
      shared = a;
      shared[(n - 1) * n + n - 1] = -1.0;
      NARROW_CHECK(!FactorCholesky({shared.data(), n, n}, 1e-3, &JobRanks()));
    };
    for (const auto& hosts : std::vector<std::vector<std::string>>{
             {"a", "a"}, {"a", "b"}, {"a", "a", "a"}, {"a", "b", "c"}}) {
      std::vector<std::string> errors;
      EXPECT_TRUE(RunOnRanks(static_cast<int>(hosts.size()), work, errors, hosts))
          << n << ": " << errors.front();
    }
  }
  SetThreadCount(0);
}

TEST(CholeskyTest, RefusesPivotsBelowTheLimitAndNan) {
  const int64_t n = 200;
  for (const double bad : {-1.0, 0.0, 0.5, std::numeric_limits<double>::quiet_NaN()}) {
    std::vector<double> a(n * n, 0.0);
    for (int64_t i = 0; i < n; ++i) a[i * n + i] = 1.0;
    a[170 * n + 170] = bad;
    EXPECT_FALSE(FactorCholesky({a.data(), n, n}, 0.6)) << bad;
  }
}

}  // namespace
}  // namespace narrow
