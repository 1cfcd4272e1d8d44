#include "evaluation/token_comparison.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "kernels/products_test.h"

namespace narrow {
namespace {

constexpr int64_t kHidden = 24;
constexpr int64_t kVocabulary = 211;
constexpr int64_t kRows = 9;
// Logits and differences of logits up to 20, in f32: a few units of 2^-24 * 20.
constexpr double kTolerance = 5.0e-6;

double Number(float value) { return static_cast<double>(value); }
double Number(Bfloat16 value) { return static_cast<double>(ToFloat(value)); }

template <typename T>
std::vector<T> Values(int64_t count, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0.0f, spread);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) {
    if constexpr (std::is_same_v<T, float>) {
      value = distribution(random);
    } else {
      value = ToBfloat16(distribution(random));
    }
  }
  return values;
}

std::vector<int32_t> Targets() {
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < kRows; ++i) {
    targets.push_back(static_cast<int32_t>(i * (kVocabulary - 1) / (kRows - 1)));  // both ends
  }
  return targets;
}

// Hidden states of an original and two variants, and a head in panels: logits of a spread of about
// 4.
template <typename T>
struct Scene {
  explicit Scene(int64_t height, float spread = 0.8f)
      : panel_rows(height),
        weights(Values<T>(kVocabulary * kHidden, spread, 1)),
        networks{Values<T>(kRows * kHidden, 1.0f, 2), Values<T>(kRows * kHidden, 1.0f, 3), {}} {
    networks[2] = networks[0];
    for (std::size_t i = 0; i < networks[2].size(); i += 5) networks[2][i] = networks[1][i];
  }
  MatrixView<const T> View(std::size_t network) const {
    return {networks[network].data(), kRows, kHidden};
  }
  PackedMatrix<T> Slice(int64_t first, int64_t rows) const {
    PackedMatrix<T> slice(rows, kHidden, panel_rows);
    slice.Pack(MatrixView<const T>(weights.data() + first * kHidden, rows, kHidden));
    return slice;
  }
  // The outcomes of all networks, the first being the original, with the head in slices.
  std::vector<std::vector<TokenOutcome>> Compare(
      const std::vector<std::size_t>& chosen, int64_t slice_rows = kVocabulary,
      const std::vector<int32_t>& targets = Targets()) const {
    std::vector<std::vector<NetworkState>> states(chosen.size(), std::vector<NetworkState>(kRows));
    std::vector<ConstOperands> views;
    std::vector<std::span<NetworkState>> spans;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      views.emplace_back(View(chosen[i]));
      spans.push_back(states[i]);
    }
    for (int64_t first = 0; first < kVocabulary; first += slice_rows) {
      const PackedWeights slice = Slice(first, std::min(slice_rows, kVocabulary - first));
      const std::vector<LogitHead> heads(chosen.size(), LogitHead{&slice, {}});
      AddLogits(heads, first, views, targets, spans);
    }
    std::vector<std::vector<TokenOutcome>> outcomes(chosen.size());
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      for (std::size_t r = 0; r < states[i].size(); ++r) {
        outcomes[i].push_back(OutcomeOf(states[0][r], states[i][r]));
      }
    }
    return outcomes;
  }

  int64_t panel_rows;
  std::vector<T> weights;
  std::vector<T> networks[3];
};

// Logits, probabilities and ranks of one token in f64, the plain way.
struct Direct {
  std::vector<double> log_p;
  std::vector<int32_t> order;

  template <typename T>
  Direct(const std::vector<T>& weights, const T* hidden) {
    for (int64_t v = 0; v < kVocabulary; ++v) {
      double logit = 0.0;
      for (int64_t k = 0; k < kHidden; ++k) {
        logit += Number(weights[static_cast<std::size_t>(v * kHidden + k)]) * Number(hidden[k]);
      }
      log_p.push_back(logit);
    }
    const double top = *std::max_element(log_p.begin(), log_p.end());
    double sum = 0.0;
    for (const double logit : log_p) sum += std::exp(logit - top);
    for (double& value : log_p) value -= top + std::log(sum);
    order.resize(log_p.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [this](int32_t a, int32_t b) {
      return log_p[static_cast<std::size_t>(a)] > log_p[static_cast<std::size_t>(b)];
    });
  }
  int64_t RankOf(int32_t token) const {
    return std::find(order.begin(), order.end(), token) - order.begin();
  }
};

void ExpectOutcome(const TokenOutcome& found, const Direct& original, const Direct& variant,
                   int32_t target, double tolerance) {
  double kl = 0.0;
  for (std::size_t i = 0; i < original.log_p.size(); ++i) {
    kl += std::exp(original.log_p[i]) * (original.log_p[i] - variant.log_p[i]);
  }
  const double log_p = variant.log_p[static_cast<std::size_t>(target)];
  EXPECT_NEAR(found.nll, -log_p, tolerance);
  EXPECT_NEAR(found.probability(), std::exp(log_p), tolerance);
  EXPECT_NEAR(found.kl, kl, tolerance);
  EXPECT_EQ(found.top1, variant.order[0]);
  EXPECT_EQ(found.top1_agrees, variant.order[0] == original.order[0]);
  EXPECT_EQ(found.top1_in_top5, variant.RankOf(original.order[0]) < 5);
  int overlap = 0;
  for (std::size_t i = 0; i < 5; ++i) overlap += variant.RankOf(original.order[i]) < 5 ? 1 : 0;
  EXPECT_EQ(found.top5_overlap, overlap);
}

template <typename T>
class TokenComparisonTest : public TestWithProducts<T> {};
using Types = testing::Types<float, Bfloat16>;
TYPED_TEST_SUITE(TokenComparisonTest, Types);

TYPED_TEST(TokenComparisonTest, MatchesDirectF64ForAnySlice) {
  const std::vector<int32_t> targets = Targets();
  for (const int64_t panel_rows :
       {int64_t{1}, int64_t{7}, int64_t{64}, int64_t{105}, kVocabulary}) {
    SCOPED_TRACE(panel_rows);
    const Scene<TypeParam> scene(panel_rows);
    const auto outcomes = scene.Compare({0, 1, 2});
    for (int64_t row = 0; row < kRows; ++row) {
      const auto r = static_cast<std::size_t>(row);
      const Direct original(scene.weights, scene.View(0).Row(row));
      for (std::size_t n = 0; n < 3; ++n) {
        const Direct variant(scene.weights, scene.View(n).Row(row));
        ExpectOutcome(outcomes[n][r], original, variant, targets[r], kTolerance);
      }
    }
  }
}

TYPED_TEST(TokenComparisonTest, PanelsOnlyMoveTheRounding) {
  const auto whole = Scene<TypeParam>(kVocabulary).Compare({0, 1, 2});
  for (const int64_t panel_rows : {int64_t{1}, int64_t{13}, int64_t{100}}) {
    const auto sliced = Scene<TypeParam>(panel_rows).Compare({0, 1, 2});
    for (std::size_t n = 0; n < 3; ++n) {
      for (std::size_t r = 0; r < whole[n].size(); ++r) {
        EXPECT_NEAR(sliced[n][r].nll, whole[n][r].nll, kTolerance);
        EXPECT_NEAR(sliced[n][r].kl, whole[n][r].kl, kTolerance);
        EXPECT_EQ(sliced[n][r].top1, whole[n][r].top1);
        EXPECT_EQ(sliced[n][r].top5_overlap, whole[n][r].top5_overlap);
      }
    }
  }
}

TYPED_TEST(TokenComparisonTest, TheOriginalAsVariantDoesNotDiverge) {
  for (const int64_t panel_rows : {int64_t{7}, int64_t{64}, kVocabulary}) {
    const auto outcomes = Scene<TypeParam>(panel_rows).Compare({0, 0});
    for (std::size_t r = 0; r < outcomes[1].size(); ++r) {
      for (const TokenOutcome& outcome : {outcomes[0][r], outcomes[1][r]}) {
        EXPECT_EQ(outcome.nll, outcomes[0][r].nll);
        EXPECT_EQ(outcome.kl, 0.0);
        EXPECT_TRUE(outcome.top1_agrees && outcome.top1_in_top5);
        EXPECT_EQ(outcome.top5_overlap, 5);
      }
    }
  }
}

void ExpectSameBits(const std::vector<TokenOutcome>& a, const std::vector<TokenOutcome>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t r = 0; r < a.size(); ++r) {
    EXPECT_EQ(a[r].nll, b[r].nll);
    EXPECT_EQ(a[r].kl, b[r].kl);
    EXPECT_EQ(a[r].top1, b[r].top1);
    EXPECT_EQ(a[r].top5_overlap, b[r].top5_overlap);
  }
}

TYPED_TEST(TokenComparisonTest, DependsOnTheTileAloneNotOnThreadOrOtherVariants) {
  const Scene<TypeParam> scene(50);
  const auto both = scene.Compare({0, 1, 2});
  ExpectSameBits(scene.Compare({0, 2})[1], both[2]);
  std::vector<std::vector<TokenOutcome>> elsewhere[2];
  std::thread first([&] { elsewhere[0] = scene.Compare({0, 1, 2}); });
  std::thread second([&] { elsewhere[1] = scene.Compare({0, 1, 2}); });
  first.join();
  second.join();
  for (const auto& outcomes : elsewhere) {
    for (std::size_t n = 0; n < 3; ++n) ExpectSameBits(outcomes[n], both[n]);
  }
}

// The head may be in memory a slice at a time: the same panels, hence the same bits.
TYPED_TEST(TokenComparisonTest, SlicesOfWholePanelsChangeNothing) {
  const Scene<TypeParam> scene(20);
  const auto whole = scene.Compare({0, 1, 2});
  for (const int64_t slice_rows : {20, 60, 100, 200}) {
    SCOPED_TRACE(slice_rows);
    const auto sliced = scene.Compare({0, 1, 2}, slice_rows);
    for (std::size_t n = 0; n < 3; ++n) ExpectSameBits(sliced[n], whole[n]);
  }
}

TYPED_TEST(TokenComparisonTest, TheOriginalNeedsNoVariants) {
  const Scene<TypeParam> scene(50);
  ExpectSameBits(scene.Compare({0})[0], scene.Compare({0, 1})[0]);
}

TYPED_TEST(TokenComparisonTest, ExtremeLogitsStayFinite) {
  const Scene<TypeParam> scene(31, 1.0e3f);  // logits around +-1e4
  for (const auto& outcomes : scene.Compare({0, 1, 2})) {
    for (const TokenOutcome& outcome : outcomes) {
      EXPECT_TRUE(std::isfinite(outcome.nll) && outcome.nll >= 0.0);
      EXPECT_TRUE(std::isfinite(outcome.kl) && outcome.kl >= 0.0);
    }
  }
}

TYPED_TEST(TokenComparisonTest, RefusesShapesThatDoNotFit) {
  const Scene<TypeParam> scene(31);
  std::vector<int32_t> targets = Targets();
  targets[4] = -1;
  EXPECT_THROW(scene.Compare({0, 1}, kVocabulary, targets), Error);
  targets.resize(3);
  EXPECT_THROW(scene.Compare({0, 1}, kVocabulary, targets), Error);
}

}  // namespace
}  // namespace narrow
