#include "kernels/group_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/every_target.h"
#include "tensor/scalar_types.h"

namespace narrow {
namespace {

// The scalar reference: the formulas of the formats, one number at a time.

float Rounded(Dtype type, float value) {
  if (type == Dtype::kBF16) return ToFloat(ToBfloat16(value));
  if (type == Dtype::kF16) return ToFloat(ToFloat16(value));
  return value;
}

float QuotientFor(Dtype type, Quotient kind, float value, float scale) {
  if (kind == Quotient::kProduct) return value * scale;
  return kind == Quotient::kStored ? Rounded(type, value / scale) : value / scale;
}

uint32_t SignBit(float q, bool zero_code, ZeroSign zero) {
  if (zero == ZeroSign::kKept) return std::signbit(q) ? 1 : 0;
  return q < 0.0f && !(zero == ZeroSign::kPositive && zero_code) ? 1 : 0;
}

uint8_t ReferenceE4M3(float q, ZeroSign zero) {
  const auto magnitude = static_cast<uint32_t>(ToFloat8E4M3(std::fabs(q)).bits);
  return static_cast<uint8_t>(magnitude | SignBit(q, magnitude == 0, zero) << 7);
}

uint8_t ReferenceE2M1(float q, ZeroSign zero) {
  const float a = std::fabs(q);
  const uint32_t code = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) +
                        (a >= 3.5f) + (a > 5.0f);
  return static_cast<uint8_t>(code | SignBit(q, code == 0, zero) << 3);
}

uint8_t ReferenceInt8(float q) {
  return static_cast<uint8_t>(std::nearbyint(std::clamp(q, -128.0f, 127.0f)));
}

uint8_t ReferenceInt4(Dtype type, Quotient kind, float q, float zero) {
  float sum = q + zero;
  if (kind == Quotient::kStored) sum = Rounded(type, sum);
  return static_cast<uint8_t>(std::nearbyint(std::clamp(sum, -8.0f, 7.0f)) + 8.0f);
}

constexpr std::array<float, 16> kE2M1 = {0,     0.5f,  1,     1.5f,  2,     3,     4,     6,
                                         -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// A row of some type with its numbers in f32.
struct TestRow {
  Dtype type;
  std::vector<float> numbers;
  std::vector<std::byte> bytes;

  WeightRow View() const { return {type, bytes.data(), static_cast<int64_t>(numbers.size())}; }
};

TestRow MakeRow(Dtype type, std::vector<float> numbers) {
  TestRow row{type, {}, std::vector<std::byte>(numbers.size() * 4)};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const float stored = Rounded(type, numbers[i]);
    row.numbers.push_back(stored);
    const auto bits = std::bit_cast<uint32_t>(stored);
    if (type == Dtype::kF32) {
      reinterpret_cast<uint32_t*>(row.bytes.data())[i] = bits;
    } else {
      reinterpret_cast<uint16_t*>(row.bytes.data())[i] =
          type == Dtype::kBF16 ? ToBfloat16(stored).bits : ToFloat16(stored).bits;
    }
  }
  return row;
}

// Numbers near the grid, ties, both zeros, tiny ones, and ones that saturate.
std::vector<float> Numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  constexpr std::array<float, 12> kSpecial = {0.0f,  -0.0f,  1e-12f, -1e-12f, 3e-39f,   -3e-39f,
                                              0.25f, -0.75f, 6.0f,   -60.0f,  5.96e-8f, -1e-5f};
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    const auto draw = random();
    number = draw % 7 == 0 ? kSpecial[(draw >> 8) % kSpecial.size()]
             : draw % 7 == 1
                 ? 0.0625f * static_cast<float>(static_cast<int>((draw >> 8) % 257) - 128)
                 : normal(random);
  }
  return numbers;
}

// A scale for each group: of real weights, powers of two, extremes.
std::vector<float> Scales(int64_t columns, int64_t group) {
  constexpr std::array<float, 7> kScales = {0.0021f,   0x1p-6f,   1.0f,  0.73f,
                                            1.18e-38f, 0x1p-127f, 448.0f};
  std::vector<float> scales(static_cast<std::size_t>((columns + group - 1) / group));
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = kScales[i % kScales.size()];
  return scales;
}

constexpr std::array kTypes = {Dtype::kBF16, Dtype::kF16, Dtype::kF32};
constexpr std::array kQuotients = {Quotient::kStored, Quotient::kExact, Quotient::kProduct};
constexpr std::array kZeroSigns = {ZeroSign::kKept, ZeroSign::kRounded, ZeroSign::kPositive};

// Calls check(row, scales) for every type of row, with groups of several sizes.
template <class Check>
void ForRows(std::initializer_list<std::pair<int64_t, int64_t>> sizes, const Check& check) {
  for (const Dtype type : kTypes) {
    for (const auto& [columns, group] : sizes) {
      SCOPED_TRACE(std::string(Name(type)) + " " + std::to_string(columns) + " in groups of " +
                   std::to_string(group));
      const TestRow row = MakeRow(type, Numbers(static_cast<std::size_t>(columns), 5));
      const std::vector<float> scales = Scales(columns, group);
      check(row, GroupScales{scales, group});
    }
  }
}

float ScaleAt(const GroupScales& scales, std::size_t column) {
  return scales.scales[column / static_cast<std::size_t>(scales.group)];
}

TEST(EncodeE4M3, LikeTheScalarReference) {
  ForRows({{640, 32}, {300, 128}, {77, 77}, {16, 16}, {1, 1}, {1024, 16}},
          [](const TestRow& row, const GroupScales& scales) {
            for (const Quotient quotient : kQuotients) {
              for (const ZeroSign zero : kZeroSigns) {
                OnEveryTarget([&] {
                  std::vector<std::byte> codes(row.numbers.size());
                  EncodeE4M3(row.View(), scales, {quotient, zero}, codes);
                  for (std::size_t i = 0; i < codes.size(); ++i) {
                    const float q =
                        QuotientFor(row.type, quotient, row.numbers[i], ScaleAt(scales, i));
                    ASSERT_EQ(std::to_integer<uint8_t>(codes[i]), ReferenceE4M3(q, zero))
                        << i << ": " << row.numbers[i] << " / " << ScaleAt(scales, i);
                  }
                });
              }
            }
          });
}

TEST(EncodeInt8, LikeTheScalarReference) {
  ForRows(
      {{640, 32}, {300, 128}, {77, 77}, {1, 1}}, [](const TestRow& row, const GroupScales& scales) {
        for (const Quotient quotient : {Quotient::kStored, Quotient::kExact}) {
          OnEveryTarget([&] {
            std::vector<std::byte> codes(row.numbers.size());
            EncodeInt8(row.View(), scales, quotient, codes);
            for (std::size_t i = 0; i < codes.size(); ++i) {
              const float q = QuotientFor(row.type, quotient, row.numbers[i], ScaleAt(scales, i));
              ASSERT_EQ(std::to_integer<uint8_t>(codes[i]), ReferenceInt8(q)) << i;
            }
          });
        }
      });
}

uint8_t NibbleAt(const std::vector<std::byte>& codes, std::size_t column) {
  const auto byte = std::to_integer<uint8_t>(codes[column / 2]);
  return column % 2 == 0 ? byte & 0xF : byte >> 4;
}

TEST(EncodeE2M1, LikeTheScalarReference) {
  ForRows({{640, 32}, {1024, 16}, {16, 16}, {128, 128}}, [](const TestRow& row,
                                                            const GroupScales& scales) {
    for (const Quotient quotient : kQuotients) {
      for (const ZeroSign zero : kZeroSigns) {
        OnEveryTarget([&] {
          std::vector<std::byte> codes(row.numbers.size() / 2);
          EncodeE2M1(row.View(), scales, {quotient, zero}, codes);
          for (std::size_t i = 0; i < row.numbers.size(); ++i) {
            const float q = QuotientFor(row.type, quotient, row.numbers[i], ScaleAt(scales, i));
            ASSERT_EQ(NibbleAt(codes, i), ReferenceE2M1(q, zero))
                << i << ": " << row.numbers[i] << " / " << ScaleAt(scales, i);
          }
        });
      }
    }
  });
}

TEST(EncodeInt4, LikeTheScalarReference) {
  ForRows({{640, 128}, {1024, 16}, {128, 128}}, [](const TestRow& row, const GroupScales& scales) {
    std::vector<float> zeros(scales.scales.size());
    for (std::size_t i = 0; i < zeros.size(); ++i) zeros[i] = static_cast<float>(i % 16) - 8.0f;
    for (const Quotient quotient : {Quotient::kStored, Quotient::kExact}) {
      for (const bool with_zeros : {false, true}) {
        OnEveryTarget([&] {
          std::vector<std::byte> codes(row.numbers.size() / 2);
          EncodeInt4(row.View(), scales,
                     with_zeros ? std::span<const float>(zeros) : std::span<const float>(),
                     quotient, codes);
          for (std::size_t i = 0; i < row.numbers.size(); ++i) {
            const float q = QuotientFor(row.type, quotient, row.numbers[i], ScaleAt(scales, i));
            const float zero = with_zeros ? zeros[i / static_cast<std::size_t>(scales.group)] : 0;
            ASSERT_EQ(NibbleAt(codes, i), ReferenceInt4(row.type, quotient, q, zero)) << i;
          }
        });
      }
    }
  });
}

TEST(FindGroups, MaximaAndRangesOfEveryGroup) {
  ForRows({{640, 32}, {1024, 16}, {300, 128}, {77, 77}, {1, 1}}, [](const TestRow& row,
                                                                    const GroupScales& scales) {
    const auto group = static_cast<std::size_t>(scales.group);
    OnEveryTarget([&] {
      std::vector<float> maxima(scales.scales.size()), low(maxima.size()), high(maxima.size());
      FindGroupMaxima(row.View(), scales.group, maxima);
      FindGroupRanges(row.View(), scales.group, low, high);
      for (std::size_t g = 0; g < maxima.size(); ++g) {
        float expected_low = 0, expected_high = 0;
        for (std::size_t i = g * group; i < std::min((g + 1) * group, row.numbers.size()); ++i) {
          expected_low = std::min(expected_low, row.numbers[i]);
          expected_high = std::max(expected_high, row.numbers[i]);
        }
        ASSERT_EQ(low[g], expected_low) << g;
        ASSERT_EQ(high[g], expected_high) << g;
        ASSERT_EQ(maxima[g], std::max(-expected_low, expected_high)) << g;
      }
    });
  });
}

TEST(FindGroupMaxima, InfinityAndNanAreSeen) {
  for (const Dtype type : kTypes) {
    for (const float bad : {INFINITY, -INFINITY, NAN, -NAN}) {
      for (const int64_t group : {16, 48}) {
        for (std::size_t at = 0; at < 48; ++at) {
          std::vector<float> numbers(48, 0.5f);
          numbers[at] = bad;
          const TestRow row = MakeRow(type, numbers);
          OnEveryTarget([&] {
            std::vector<float> maxima(static_cast<std::size_t>(48 / group));
            FindGroupMaxima(row.View(), group, maxima);
            ASSERT_FALSE(std::isfinite(maxima[at / static_cast<std::size_t>(group)])) << at;
          });
        }
      }
    }
  }
}

// Every code, with each of two scales.
TEST(Decoding, EveryCodeLikeTheScalarReference) {
  std::vector<std::byte> codes(512);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(i & 0xFF);
  const std::vector<float> scales = {0.37f, 0x1p-20f};
  const GroupScales bytes{scales, 256}, nibbles{scales, 512};
  const std::vector<float> zeros = {3.0f, -8.0f};
  OnEveryTarget([&] {
    std::vector<float> e4m3(512), int8(512), e2m1(1024), int4(1024), shifted(1024);
    DecodeE4M3(codes, bytes, e4m3);
    DecodeInt8(codes, bytes, int8);
    DecodeE2M1(codes, nibbles, e2m1);
    DecodeInt4(codes, nibbles, {}, int4);
    DecodeInt4(codes, nibbles, zeros, shifted);
    for (std::size_t i = 0; i < 512; ++i) {
      const float scale = scales[i / 256];
      const float number = ToFloat(Float8E4M3{static_cast<uint8_t>(i & 0xFF)});
      if (std::isnan(number)) {
        ASSERT_TRUE(std::isnan(e4m3[i]));
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(e4m3[i]), std::bit_cast<uint32_t>(number * scale)) << i;
      }
      ASSERT_EQ(int8[i], static_cast<float>(static_cast<int8_t>(i & 0xFF)) * scale) << i;
    }
    for (std::size_t i = 0; i < 1024; ++i) {
      const float scale = scales[i / 512];
      const uint8_t code = NibbleAt(codes, i);
      ASSERT_EQ(std::bit_cast<uint32_t>(e2m1[i]), std::bit_cast<uint32_t>(kE2M1[code] * scale));
      ASSERT_EQ(int4[i], static_cast<float>(code - 8) * scale) << i;
      ASSERT_EQ(shifted[i], (static_cast<float>(code - 8) - zeros[i / 512]) * scale) << i;
    }
  });
}

}  // namespace
}  // namespace narrow
