#include "kernels/float8.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/every_target.h"
#include "tensor/golden_file.h"

namespace narrow {
namespace {

// Scales of real tensors, powers of two, and ones that make the quotient subnormal or infinite.
constexpr float kScales[] = {1.0f,           0x1p-3f,  0.0022321429f, 0.00018596649f, 0.73f,
                             1.1920929e-07f, 1.0e-30f, 1.0e-40f,      3.0e38f,        448.0f};

template <typename T>
std::vector<T> EveryPattern() {
  std::vector<T> values(65536);
  for (uint32_t i = 0; i < 65536; ++i) values[i] = T{static_cast<uint16_t>(i)};
  return values;
}

// Random bit patterns, so every exponent, infinities and NaN, and values near the E4M3 range.
std::vector<float> RandomFloats(std::size_t count) {
  std::mt19937 random(7);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    const uint32_t near_range = (bits & 0x81FFFFFFu) | (0x38u << 24) | (bits & 0x04000000u);
    values[i] = std::bit_cast<float>(i % 2 == 0 ? bits : near_range);
  }
  return values;
}

float AsFloat(float value) { return value; }
float AsFloat(Bfloat16 value) { return ToFloat(value); }
float AsFloat(Float16 value) { return ToFloat(value); }

template <typename T>
std::vector<float> AsFloats(const std::vector<T>& values) {
  std::vector<float> floats;
  for (const T value : values) floats.push_back(AsFloat(value));
  return floats;
}

// The scalar reference of QuantizeFloat8.
template <typename T>
int64_t QuantizeScalar(const std::vector<T>& values, float scale, std::vector<Float8E4M3>& codes) {
  int64_t saturated = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = AsFloat(values[i]);
    codes[i] = ToFloat8E4M3(value / scale);
    if (std::isfinite(value) && std::fabs(value / scale) > 448.0f) ++saturated;
  }
  return saturated;
}

template <typename T>
void CheckEncoding(const std::vector<T>& values, const std::vector<uint8_t>& expected) {
  if (expected.empty()) GTEST_SKIP() << "reference files are absent";
  ASSERT_EQ(values.size(), expected.size());
  OnEveryTarget([&] {
    std::vector<Float8E4M3> codes(values.size());
    QuantizeFloat8(AsFloats(values), 1.0f, codes);
    for (std::size_t i = 0; i < codes.size(); ++i) ASSERT_EQ(codes[i].bits, expected[i]) << i;
  });
}

TEST(QuantizeFloat8, EveryBfloat16LikePyTorch) {
  CheckEncoding(EveryPattern<Bfloat16>(), ReadGolden<uint8_t>("fp8/bf16_to_e4m3fn_saturating.bin"));
}

TEST(QuantizeFloat8, EveryFloat16LikePyTorch) {
  CheckEncoding(EveryPattern<Float16>(), ReadGolden<uint8_t>("fp8/f16_to_e4m3fn_saturating.bin"));
}

TEST(QuantizeFloat8, FloatsLikePyTorch) {
  CheckEncoding(ReadGolden<float>("fp8/f32_inputs.bin"), ReadGolden<uint8_t>("fp8/f32_codes.bin"));
}

TEST(DecodeFloat8, EveryCodeLikePyTorch) {
  const auto expected = ReadGolden<uint32_t>("fp8/e4m3fn_to_f32.bin");
  if (expected.empty()) GTEST_SKIP() << "reference files are absent";
  ASSERT_EQ(expected.size(), 256u);
  std::vector<Float8E4M3> codes(256);
  for (uint32_t i = 0; i < 256; ++i) codes[i].bits = static_cast<uint8_t>(i);
  OnEveryTarget([&] {
    std::vector<float> values(256);
    std::vector<Bfloat16> halves(256);
    DecodeFloat8(codes, std::span<float>(values));
    DecodeFloat8(codes, std::span<Bfloat16>(halves));
    for (std::size_t i = 0; i < 256; ++i) {
      EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), expected[i]) << i;
      EXPECT_EQ(static_cast<uint32_t>(halves[i].bits) << 16, expected[i]) << i;
    }
  });
}

// Quantizing, and rounding to the grid, against the scalar reference bit for bit.
template <typename T>
void CheckQuantizing(const std::vector<T>& values) {
  for (const float scale : kScales) {
    SCOPED_TRACE(scale);
    std::vector<Float8E4M3> expected(values.size());
    const int64_t expected_saturated = QuantizeScalar(values, scale, expected);
    OnEveryTarget([&] {
      std::vector<Float8E4M3> codes(values.size());
      EXPECT_EQ(QuantizeFloat8(AsFloats(values), scale, codes), expected_saturated);
      std::vector<T> rounded = values;
      EXPECT_EQ(RoundToFloat8Grid(std::span<T>(rounded), scale), expected_saturated);
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(codes[i].bits, expected[i].bits) << AsFloat(values[i]);
        ASSERT_EQ(std::bit_cast<uint32_t>(AsFloat(rounded[i])),
                  std::bit_cast<uint32_t>(ToFloat(expected[i])))
            << AsFloat(values[i]);
      }
    });
  }
}

TEST(QuantizeFloat8, EveryBfloat16LikeTheScalarReference) {
  CheckQuantizing(EveryPattern<Bfloat16>());
}

TEST(QuantizeFloat8, FloatsLikeTheScalarReference) { CheckQuantizing(RandomFloats(100'003)); }

// Products of a scale and an E4M3 midpoint and their neighbours: where a reciprocal would fail.
TEST(QuantizeFloat8, DividesExactlyAtMidpoints) {
  std::vector<float> values;
  for (const float scale : kScales) {
    for (uint8_t code = 0; code < 0x7E; ++code) {
      const float middle =
          0.5f * (ToFloat(Float8E4M3{code}) + ToFloat(Float8E4M3{static_cast<uint8_t>(code + 1)}));
      const float product = middle * scale;
      values.insert(values.end(), {std::nextafter(product, 0.0f), product, -product,
                                   std::nextafter(product, std::numeric_limits<float>::max())});
    }
  }
  CheckQuantizing(values);
}

// Any length gives the codes of the elements alone and leaves what follows untouched.
TEST(QuantizeFloat8, EveryLengthIsHandled) {
  const std::vector<float> values = RandomFloats(200);
  std::vector<Bfloat16> halves(200);
  for (std::size_t i = 0; i < 200; ++i) halves[i] = ToBfloat16(values[i]);
  std::vector<Float8E4M3> expected(200), expected_half(200);
  QuantizeScalar(values, 0.73f, expected);
  QuantizeScalar(halves, 0.73f, expected_half);
  constexpr Float8E4M3 kUntouched{0x55};
  OnEveryTarget([&] {
    for (std::size_t count = 0; count <= 150; ++count) {
      std::vector<Float8E4M3> codes(200, kUntouched);
      QuantizeFloat8(std::span(values).first(count), 0.73f, std::span(codes).first(count));
      std::vector<float> decoded(200, -1.0f);
      DecodeFloat8(std::span<const Float8E4M3>(expected).first(count),
                   std::span(decoded).first(count));
      std::vector<Bfloat16> grid = halves;
      RoundToFloat8Grid(std::span(grid).first(count), 0.73f);
      for (std::size_t i = 0; i < 200; ++i) {
        ASSERT_EQ(codes[i], i < count ? expected[i] : kUntouched) << count;
        const float number = i < count ? ToFloat(expected[i]) : -1.0f;
        ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(number)) << count;
        ASSERT_EQ(grid[i], i < count ? ToBfloat16(ToFloat(expected_half[i])) : halves[i]) << count;
      }
    }
  });
}

TEST(FindAbsoluteMaximum, EveryLengthAndPosition) {
  OnEveryTarget([] {
    for (std::size_t count = 1; count <= 140; count += 3) {
      for (std::size_t at = 0; at < count; ++at) {
        std::vector<float> values(count, 0.5f);
        values[at] = -3.0f;
        std::vector<Bfloat16> bfloats(count);
        std::vector<Float16> halves(count);
        for (std::size_t i = 0; i < count; ++i) {
          bfloats[i] = ToBfloat16(values[i]);
          halves[i] = ToFloat16(values[i]);
        }
        ASSERT_EQ(FindAbsoluteMaximum(std::span<const float>(values)).amax, 3.0f);
        ASSERT_EQ(FindAbsoluteMaximum(std::span<const Bfloat16>(bfloats)).amax, 3.0f);
        ASSERT_EQ(FindAbsoluteMaximum(std::span<const Float16>(halves)).amax, 3.0f);
      }
    }
  });
}

TEST(FindAbsoluteMaximum, ReportsWhatIsNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  OnEveryTarget([] {
    for (const float bad : {kInfinity, -kInfinity, std::nanf(""), -std::nanf("")}) {
      for (std::size_t at = 0; at < 71; ++at) {
        std::vector<float> values(71, 1.5f);
        values[at] = bad;
        std::vector<Bfloat16> bfloats(71);
        std::vector<Float16> halves(71);
        for (std::size_t i = 0; i < 71; ++i) {
          bfloats[i] = ToBfloat16(values[i]);
          halves[i] = ToFloat16(values[i]);
        }
        for (const AbsoluteMaximum& found :
             {FindAbsoluteMaximum(std::span<const float>(values)),
              FindAbsoluteMaximum(std::span<const Bfloat16>(bfloats)),
              FindAbsoluteMaximum(std::span<const Float16>(halves))}) {
          ASSERT_EQ(found.amax, 1.5f) << at;
          ASSERT_FALSE(found.finite) << at;
        }
      }
    }
  });
}

TEST(FindAbsoluteMaximum, OfNothingAndOfTheLargestNumber) {
  OnEveryTarget([] {
    EXPECT_EQ(FindAbsoluteMaximum(std::span<const float>()).amax, 0.0f);
    EXPECT_TRUE(FindAbsoluteMaximum(std::span<const Bfloat16>()).finite);
    const std::vector<Bfloat16> largest(3, Bfloat16{0xFF7F});
    EXPECT_EQ(FindAbsoluteMaximum(std::span<const Bfloat16>(largest)).amax, 0x1.FEp127f);
    EXPECT_TRUE(FindAbsoluteMaximum(std::span<const Bfloat16>(largest)).finite);
  });
}

}  // namespace
}  // namespace narrow
