#include "tensor/scalar_types.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensor/golden_file.h"

namespace narrow {
namespace {

TEST(Float8E4M3, EncodesEveryBfloat16LikePyTorch) {
  const auto codes = ReadGolden<uint8_t>("fp8/bf16_to_e4m3fn_saturating.bin");
  if (codes.empty()) GTEST_SKIP() << "reference files are absent";
  ASSERT_EQ(codes.size(), 65536u);
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = ToFloat(Bfloat16{static_cast<uint16_t>(bits)});
    ASSERT_EQ(ToFloat8E4M3(value).bits, codes[bits]) << std::hex << bits;
  }
}

TEST(Float8E4M3, EncodesEveryFloat16LikePyTorch) {
  const auto codes = ReadGolden<uint8_t>("fp8/f16_to_e4m3fn_saturating.bin");
  if (codes.empty()) GTEST_SKIP() << "reference files are absent";
  ASSERT_EQ(codes.size(), 65536u);
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = ToFloat(Float16{static_cast<uint16_t>(bits)});
    ASSERT_EQ(ToFloat8E4M3(value).bits, codes[bits]) << std::hex << bits;
  }
}

TEST(Float8E4M3, EncodesFloatsLikePyTorch) {
  const auto inputs = ReadGolden<float>("fp8/f32_inputs.bin");
  const auto codes = ReadGolden<uint8_t>("fp8/f32_codes.bin");
  if (codes.empty()) GTEST_SKIP() << "reference files are absent";
  ASSERT_EQ(inputs.size(), codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ASSERT_EQ(ToFloat8E4M3(inputs[i]).bits, codes[i]) << inputs[i];
  }
}

TEST(Float8E4M3, DecodesEveryCodeLikePyTorch) {
  const auto bits = ReadGolden<uint32_t>("fp8/e4m3fn_to_f32.bin");
  if (bits.empty()) GTEST_SKIP() << "reference files are absent";
  ASSERT_EQ(bits.size(), 256u);
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = ToFloat(Float8E4M3{static_cast<uint8_t>(code)});
    EXPECT_EQ(std::bit_cast<uint32_t>(value), bits[code]) << code;
  }
}

TEST(Float8E4M3, RoundTripsEveryCode) {
  for (uint32_t code = 0; code < 256; ++code) {
    const Float8E4M3 value{static_cast<uint8_t>(code)};
    EXPECT_EQ(ToFloat8E4M3(ToFloat(value)), value);
  }
}

// The hardware conversion of the compiler's own _Float16 is an independent reference.
TEST(Float16, MatchesTheCompilerOnEveryPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Float16 value{static_cast<uint16_t>(bits)};
    const auto reference = static_cast<float>(std::bit_cast<_Float16>(value.bits));
    if (std::isnan(reference)) {
      EXPECT_TRUE(std::isnan(ToFloat(value)));
      EXPECT_TRUE(std::isnan(ToFloat(ToFloat16(ToFloat(value)))));
      continue;
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(ToFloat(value)), std::bit_cast<uint32_t>(reference));
    ASSERT_EQ(ToFloat16(reference), value);
  }
}

TEST(Float16, RoundsLikeTheCompiler) {
  // A stride through all f32 patterns that meets ties (low bits 0x1000) in every binade.
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 0x800) {
    for (const uint32_t offset : {0u, 1u}) {
      const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits) + offset);
      if (std::isnan(value)) continue;
      const auto expected = std::bit_cast<uint16_t>(static_cast<_Float16>(value));
      ASSERT_EQ(ToFloat16(value).bits, expected) << value;
    }
  }
}

TEST(Bfloat16, RoundTripsEveryPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Bfloat16 value{static_cast<uint16_t>(bits)};
    if (std::isnan(ToFloat(value))) {
      EXPECT_TRUE(std::isnan(ToFloat(ToBfloat16(ToFloat(value)))));
    } else {
      EXPECT_EQ(ToBfloat16(ToFloat(value)), value);
    }
  }
}

TEST(Bfloat16, RoundsTiesToEvenAndOverflowsToInfinity) {
  EXPECT_EQ(ToBfloat16(std::bit_cast<float>(0x3F808000u)).bits, 0x3F80);  // tie, even below
  EXPECT_EQ(ToBfloat16(std::bit_cast<float>(0x3F818000u)).bits, 0x3F82);  // tie, even above
  EXPECT_EQ(ToBfloat16(std::bit_cast<float>(0x3F808001u)).bits, 0x3F81);
  EXPECT_EQ(ToBfloat16(std::bit_cast<float>(0xBF807FFFu)).bits, 0xBF80);
  EXPECT_EQ(ToBfloat16(std::numeric_limits<float>::max()).bits, 0x7F80);
  EXPECT_EQ(ToBfloat16(std::bit_cast<float>(0x7F800001u)).bits, 0x7FC0);  // not infinity
}

}  // namespace
}  // namespace narrow
