#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>
#include <vector>

#include "kernels/every_target.h"

namespace narrow {
namespace {

// Relative error of one rounding to the type, half a unit in the last place, and a little for the
// f32 arithmetic before it.
template <typename T>
constexpr double kTolerance = 1.0e-6;
template <>
constexpr double kTolerance<Bfloat16> = 0x1p-8 * 1.001;

constexpr int64_t kLengths[] = {1, 2, 7, 16, 31, 33, 64, 65, 127, 200};

double Number(float value) { return static_cast<double>(value); }
double Number(Bfloat16 value) { return static_cast<double>(ToFloat(value)); }

template <typename T>
T As(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return ToBfloat16(value);
  }
}

template <typename T>
std::vector<T> RandomValues(int64_t count, float low, float high, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = As<T>(distribution(random));
  return values;
}

template <typename T>
void ExpectNear(T found, double expected, double magnitude) {
  ASSERT_NEAR(Number(found), expected, kTolerance<T> * std::fabs(magnitude) + 1.0e-36);
}

template <typename T>
class ElementwiseTest : public testing::Test {};
using Types = testing::Types<float, Bfloat16>;
TYPED_TEST_SUITE(ElementwiseTest, Types);

TYPED_TEST(ElementwiseTest, ScaleTo) {
  OnEveryTarget([] {
    for (const int64_t count : kLengths) {
      const auto x = RandomValues<float>(count, -5.0f, 5.0f, 1);
      std::vector<TypeParam> y(x.size());
      ScaleTo<TypeParam>(x, 0.37f, y);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], As<TypeParam>(x[i] * 0.37f));
    }
  });
}

TYPED_TEST(ElementwiseTest, RmsNorm) {
  OnEveryTarget([] {
    for (const int64_t hidden : kLengths) {
      const int64_t stride = hidden + 3;
      const auto x = RandomValues<float>(3 * stride, -4.0f, 6.0f, 2);
      const auto weight = RandomValues<float>(hidden, -2.0f, 2.0f, 3);
      std::vector<TypeParam> y(x.size(), As<TypeParam>(99.0f));
      RmsNorm<TypeParam>({x.data(), 3, hidden, stride}, weight, 1e-5f,
                         {y.data(), 3, hidden, stride});
      for (int64_t r = 0; r < 3; ++r) {
        double squares = 0.0;
        for (int64_t i = 0; i < hidden; ++i) squares += std::pow(Number(x[r * stride + i]), 2);
        const double root = std::sqrt(squares / static_cast<double>(hidden) + 1e-5);
        for (int64_t i = 0; i < hidden; ++i) {
          const double expected = Number(weight[i]) * Number(x[r * stride + i]) / root;
          ExpectNear(y[r * stride + i], expected, expected);
        }
        EXPECT_EQ(Number(y[r * stride + hidden]), 99.0);
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, RotateHeadInPlace) {
  OnEveryTarget([] {
    for (const int64_t half : kLengths) {
      const auto x = RandomValues<TypeParam>(2 * half, -4.0f, 4.0f, 4);
      const auto angle = RandomValues<float>(half, 0.0f, 6.0f, 5);
      std::vector<float> cosine(angle.size()), sine(angle.size());
      for (std::size_t i = 0; i < angle.size(); ++i) {
        cosine[i] = std::cos(angle[i]);
        sine[i] = std::sin(angle[i]);
      }
      std::vector<TypeParam> y = x;
      RotateHead<TypeParam>(y, cosine, sine, y);
      for (int64_t i = 0; i < half; ++i) {
        const double a = Number(x[i]);
        const double b = Number(x[i + half]);
        const double length = std::hypot(a, b);
        ExpectNear(y[i], a * Number(cosine[i]) - b * Number(sine[i]), length);
        ExpectNear(y[i + half], b * Number(cosine[i]) + a * Number(sine[i]), length);
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, SwiGlu) {
  OnEveryTarget([] {
    for (const int64_t width : kLengths) {
      const int64_t stride = width + 5;
      auto gate = RandomValues<TypeParam>(2 * stride, -30.0f, 30.0f, 6);
      const auto up = RandomValues<TypeParam>(2 * stride, -3.0f, 3.0f, 7);
      const float extremes[] = {0.0f, -0.0f, 200.0f, -200.0f, 174.0f, -174.0f, 1e30f, -1e30f};
      for (std::size_t i = 0; i < std::min<std::size_t>(8, gate.size()); ++i) {
        gate[i] = As<TypeParam>(extremes[i]);
      }
      std::vector<TypeParam> out(gate.size(), As<TypeParam>(99.0f));
      Activate<TypeParam>(Activation::kSilu, {gate.data(), 2, width, stride},
                          {up.data(), 2, width, stride}, {out.data(), 2, width, stride});
      for (int64_t r = 0; r < 2; ++r) {
        for (int64_t i = 0; i < width; ++i) {
          const double g = Number(gate[r * stride + i]);
          const double u = Number(up[r * stride + i]);
          const double expected = g / (1.0 + std::exp(-g)) * u;
          // The error of e^-g grows with |g| on targets without FMA; below g = -87 it stays e^87.
          const double slack = g < 0.0 ? std::min(-g, 87.0) * 0x1p-24 : 0.0;
          const double floor =
              slack * std::fabs(expected) + (g < -87.0 ? std::fabs(g * u) * 1.7e-38 : 0.0);
          ASSERT_NEAR(Number(out[r * stride + i]), expected,
                      kTolerance<TypeParam> * std::fabs(expected) + floor)
              << g;
        }
        EXPECT_EQ(Number(out[r * stride + width]), 99.0);
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, SwiGluKeepsNan) {
  OnEveryTarget([] {
    const std::vector<TypeParam> nan(40, As<TypeParam>(std::nanf("")));
    const std::vector<TypeParam> one(40, As<TypeParam>(1.0f));
    std::vector<TypeParam> out(40);
    Activate<TypeParam>(Activation::kSilu, {nan.data(), 1, 40}, {one.data(), 1, 40},
                        {out.data(), 1, 40});
    for (const TypeParam value : out) EXPECT_TRUE(std::isnan(Number(value)));
  });
}

// GELU by tanh and the squared ReLU, with and without a factor.
TYPED_TEST(ElementwiseTest, OtherActivations) {
  const auto direct = [](Activation activation, double x) {
    if (activation == Activation::kSilu) return x / (1.0 + std::exp(-x));
    if (activation == Activation::kSigmoid) return 1.0 / (1.0 + std::exp(-x));
    if (activation == Activation::kSquaredRelu) return x > 0 ? x * x : 0.0;
    const double u = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + std::tanh(u));
  };
  OnEveryTarget([&] {
    for (const int64_t width : kLengths) {
      auto x = RandomValues<TypeParam>(2 * width, -8.0f, 8.0f, 11);
      x.front() = As<TypeParam>(-200.0f);
      x.back() = As<TypeParam>(200.0f);
      const auto factor = RandomValues<TypeParam>(2 * width, -3.0f, 3.0f, 12);
      const MatrixView<const TypeParam> view(x.data(), 2, width);
      for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh,
                                          Activation::kSquaredRelu, Activation::kSigmoid}) {
        std::vector<TypeParam> gated(x.size()), plain(x.size());
        Activate<TypeParam>(activation, view, {factor.data(), 2, width}, {gated.data(), 2, width});
        Activate<TypeParam>(activation, view, {}, {plain.data(), 2, width});
        for (std::size_t i = 0; i < x.size(); ++i) {
          const double expected = direct(activation, Number(x[i]));
          const double product = expected * Number(factor[i]);
          // Below zero, 1 + tanh is a difference: its error is one of the input's size.
          const double floor = 2e-6 * std::fabs(Number(x[i]));
          ASSERT_NEAR(Number(plain[i]), expected,
                      kTolerance<TypeParam> * std::fabs(expected) + floor);
          ASSERT_NEAR(Number(gated[i]), product,
                      kTolerance<TypeParam> * std::fabs(product) + 3 * floor);
        }
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, LayerNorm) {
  OnEveryTarget([] {
    for (const int64_t hidden : kLengths) {
      if (hidden == 1) continue;  // a variance of 0
      const auto x = RandomValues<float>(3 * hidden, -4.0f, 6.0f, 13);
      const auto weight = RandomValues<float>(hidden, -2.0f, 2.0f, 14);
      const auto bias = RandomValues<float>(hidden, -1.0f, 1.0f, 15);
      std::vector<TypeParam> with(x.size()), without(x.size());
      LayerNorm<TypeParam>({x.data(), 3, hidden}, weight, bias, 1e-5f, {with.data(), 3, hidden});
      LayerNorm<TypeParam>({x.data(), 3, hidden}, weight, {}, 1e-5f, {without.data(), 3, hidden});
      for (int64_t r = 0; r < 3; ++r) {
        const auto count = static_cast<double>(hidden);
        double mean = 0.0, variance = 0.0;
        for (int64_t i = 0; i < hidden; ++i) mean += Number(x[r * hidden + i]) / count;
        for (int64_t i = 0; i < hidden; ++i) {
          variance += std::pow(Number(x[r * hidden + i]) - mean, 2) / count;
        }
        for (int64_t i = 0; i < hidden; ++i) {
          const double normed = (Number(x[r * hidden + i]) - mean) / std::sqrt(variance + 1e-5);
          const double expected = normed * Number(weight[i]);
          const double slack = 4e-6;  // of the mean in f32
          ASSERT_NEAR(Number(without[r * hidden + i]), expected,
                      kTolerance<TypeParam> * std::fabs(expected) + slack);
          ASSERT_NEAR(Number(with[r * hidden + i]), expected + Number(bias[i]),
                      kTolerance<TypeParam> * std::fabs(expected + Number(bias[i])) + slack);
        }
      }
    }
  });
}

TEST(SoftCapTest, IsTheTangentAtEverySize) {
  OnEveryTarget([] {
    for (const int64_t count : kLengths) {
      auto x = RandomValues<float>(count, -300.0f, 300.0f, 16);
      x.front() = 0.0f;
      std::vector<float> capped = x;
      SoftCap(capped, 0.5f, 30.0f);
      for (std::size_t i = 0; i < x.size(); ++i) {
        ASSERT_NEAR(capped[i], 30.0 * std::tanh(Number(x[i]) * 0.5 / 30.0), 1e-5) << x[i];
      }
    }
  });
}

// The softmax of a long row fed block by block, against the definition in f64.
TYPED_TEST(ElementwiseTest, SoftmaxStepsGiveTheSoftmax) {
  constexpr int64_t kRows = 5;
  constexpr int64_t kColumns = 45;
  constexpr int64_t kBlocks = 4;
  constexpr float kScale = 0.125f;
  OnEveryTarget([] {
    std::vector<float> maximum(kRows, -std::numeric_limits<float>::infinity());
    std::vector<float> sum(kRows, 0.0f);
    std::vector<float> accumulator(kRows * 3, 0.0f);
    std::vector<double> expected_sum(kRows, 0.0);
    std::vector<std::vector<double>> seen(kRows);
    for (int64_t block = 0; block < kBlocks; ++block) {
      const auto scores =
          RandomValues<float>(kRows * kColumns, -400.0f, 400.0f, static_cast<uint32_t>(block));
      // Row 0 sees nothing at all, row 1 nothing in the first blocks.
      const std::vector<int64_t> valid = {0, block < 2 ? 0 : 7, kColumns, 1 + 16 * (block % 2), 33};
      std::vector<TypeParam> p(kRows * kColumns, As<TypeParam>(99.0f));
      SoftmaxStep<TypeParam>({scores.data(), kRows, kColumns}, kScale, valid,
                             {p.data(), kRows, kColumns}, maximum, sum,
                             {accumulator.data(), kRows, 3});
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t i = 0; i < kColumns; ++i) {
          const double score = Number(scores[r * kColumns + i]) * Number(kScale);
          const double expected = i < valid[r] ? std::exp(score - Number(maximum[r])) : 0.0;
          // Scores up to 50 and their differences up to 100 are rounded before the exponential.
          const double slack = kTolerance<TypeParam> + 200.0 * 0x1p-24;
          // Below e^-87.33 the kernel stays at that, 1.2e-38.
          ASSERT_NEAR(Number(p[r * kColumns + i]), expected, slack * expected + 1.2e-38);
          if (i < valid[r]) seen[r].push_back(score);
          if (r != 0 && i < valid[r]) accumulator[r * 3 + 1] += static_cast<float>(expected);
        }
      }
    }
    EXPECT_EQ(sum[0], 0.0f);
    EXPECT_EQ(maximum[0], -std::numeric_limits<float>::infinity());
    for (int64_t r = 1; r < kRows; ++r) {
      const double top = *std::max_element(seen[r].begin(), seen[r].end());
      double total = 0.0;
      for (const double score : seen[r]) total += std::exp(score - top);
      EXPECT_NEAR(Number(maximum[r]), top, 1.0e-5);
      EXPECT_NEAR(Number(sum[r]), total, 1.0e-5 * total);
      EXPECT_NEAR(Number(accumulator[r * 3 + 1]), total, 1.0e-5 * total);
      EXPECT_EQ(accumulator[r * 3], 0.0f);
    }
  });
}

TYPED_TEST(ElementwiseTest, SoftmaxStepFarBelowTheMaximumGivesNothing) {
  OnEveryTarget([] {
    const std::vector<float> scores = {0.0f, -1.0e4f, -3.0e38f, -90.0f,
                                       -std::numeric_limits<float>::infinity()};
    std::vector<TypeParam> p(5);
    std::vector<float> maximum = {-3.0e38f}, sum = {0.0f}, accumulator = {4.0f};
    SoftmaxStep<TypeParam>({scores.data(), 1, 5}, 1.0f, std::vector<int64_t>{5}, {p.data(), 1, 5},
                           maximum, sum, {accumulator.data(), 1, 1});
    EXPECT_EQ(Number(p[0]), 1.0);
    for (std::size_t i = 1; i < 5; ++i) EXPECT_LT(Number(p[i]), 1.3e-38);
    EXPECT_EQ(sum[0], 1.0f);
    EXPECT_EQ(maximum[0], 0.0f);
    EXPECT_EQ(accumulator[0], 0.0f);
  });
}

// Rounding of f32 numbers to E4M3 over 2^8 by the scalar reference; sums and maxima as without it.
TYPED_TEST(ElementwiseTest, SoftmaxStepInFloat8RoundsLikeTheScalarReference) {
  constexpr int64_t kRows = 4, kColumns = 4003;
  // Down to far below the smallest subnormal, 2^-17, with ties of many exponents among them.
  const auto scores = RandomValues<float>(kRows * kColumns, -16.0f, 0.5f, 3);
  const std::vector<int64_t> valid = {kColumns, kColumns - 1, 1000, 3};
  OnEveryTarget([&] {
    std::vector<float> exact(kRows * kColumns), sums[2], maxima[2], accumulators[2];
    std::vector<TypeParam> p(exact.size());
    for (const std::size_t run : {0u, 1u}) {
      sums[run].assign(kRows, 0.5f);
      maxima[run].assign(kRows, 0.0f);
      accumulators[run].assign(kRows, 1.0f);
    }
    const MatrixView<const float> in(scores.data(), kRows, kColumns);
    SoftmaxStep<float>(in, 0.9f, valid, {exact.data(), kRows, kColumns}, maxima[0], sums[0],
                       {accumulators[0].data(), kRows, 1});
    SoftmaxStep<TypeParam>(in, 0.9f, valid, {p.data(), kRows, kColumns}, maxima[1], sums[1],
                           {accumulators[1].data(), kRows, 1}, ProbabilityRounding::kFloat8);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      ASSERT_EQ(Number(p[i]), Number(ToFloat(ToFloat8E4M3(exact[i] * 256)) / 256)) << exact[i];
    }
    EXPECT_EQ(sums[0], sums[1]);
    EXPECT_EQ(maxima[0], maxima[1]);
    EXPECT_EQ(accumulators[0], accumulators[1]);
  });
}

// e^x of the kernels, seen through SoftmaxStep with a maximum of 0, over the whole range: a unit in
// the last place near 0, growing with |x| by what the range reduction promises without FMA.
TEST(Exponential, RelativeErrorStaysWithinItsBound) {
  constexpr int64_t kCount = 1'000'000;
  std::vector<float> x(kCount);
  for (int64_t i = 0; i < kCount; ++i) x[i] = -87.3f * static_cast<float>(i) / kCount;
  OnEveryTarget([&] {
    std::vector<float> p(kCount), maximum = {0.0f}, sum = {0.0f}, accumulator = {0.0f};
    SoftmaxStep<float>({x.data(), 1, kCount}, 1.0f, std::vector<int64_t>{kCount},
                       {p.data(), 1, kCount}, maximum, sum, {accumulator.data(), 1, 1});
    EXPECT_EQ(p[0], 1.0f);
    for (int64_t i = 0; i < kCount; ++i) {
      const double expected = std::exp(Number(x[i]));
      const double error = std::fabs(Number(p[i]) - expected) / expected;
      ASSERT_LE(error, 0x1p-23 * (1.0 - Number(x[i]) / 1.6)) << x[i];
    }
  });
}

TEST(Convert, EveryPatternLikeTheScalarReference) {
  std::vector<Bfloat16> bfloats(65536);
  std::vector<Float16> halves(65536);
  for (uint32_t i = 0; i < 65536; ++i) {
    bfloats[i].bits = static_cast<uint16_t>(i);
    halves[i].bits = static_cast<uint16_t>(i);
  }
  OnEveryTarget([&] {
    std::vector<float> from_bfloats(65536), from_halves(65536);
    std::vector<Bfloat16> narrowed(65536);
    ConvertToFloat(std::span<const Bfloat16>(bfloats), from_bfloats);
    ConvertToFloat(std::span<const Float16>(halves), from_halves);
    ConvertToBfloat16(std::span<const Float16>(halves), narrowed);
    for (uint32_t i = 0; i < 65536; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(from_bfloats[i]), i << 16);
      ASSERT_EQ(std::bit_cast<uint32_t>(from_halves[i]),
                std::bit_cast<uint32_t>(ToFloat(halves[i])));
      ASSERT_EQ(narrowed[i], ToBfloat16(ToFloat(halves[i])));
    }
  });
}

TEST(Convert, FloatsToBfloat16LikeTheScalarReference) {
  // Every upper half with lower halves around the tie.
  std::vector<float> values;
  for (uint32_t i = 0; i < 65536; ++i) {
    for (const uint32_t low : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      values.push_back(std::bit_cast<float>(i << 16 | low));
    }
  }
  values.resize(values.size() - 5);  // not a multiple of any vector
  OnEveryTarget([&] {
    std::vector<Bfloat16> narrowed(values.size());
    ConvertToBfloat16(std::span<const float>(values), narrowed);
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(narrowed[i], ToBfloat16(values[i]));
  });
}

}  // namespace
}  // namespace narrow
