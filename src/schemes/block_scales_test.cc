// Scales against those of compressed-tensors 0.19 (llm-compressor 0.14) on a CPU.
#include "schemes/block_scales.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "tensor/scalar_types.h"

namespace narrow {
namespace {

uint16_t Bits(float value) { return ToBfloat16(value).bits; }
float FromBits(uint16_t bits) { return ToFloat(Bfloat16{bits}); }

struct Row {
  uint16_t amax;
  uint16_t fp8, int8, int4;  // scales
  uint32_t global;
  int mxfp4, mxfp8;
};

TEST(BlockScales, OfBf16LikeTheTool) {
  constexpr Row kRows[] = {
      {0x3F80, 0x3B12, 0x3C01, 0x3E09, 0x45280000, 125, 119},
      {0x4049, 0x3BE6, 0x3CCA, 0x3ED6, 0x44560000, 126, 120},
      {0x3F40, 0x3ADB, 0x3BC1, 0x3DCD, 0x45600000, 124, 118},
      {0x3EE0, 0x3A80, 0x3B61, 0x3D6F, 0x45C00000, 124, 118},
      {0x3EDE, 0x3A7E, 0x3B5F, 0x3D6D, 0x45C20000, 123, 117},
      {0x43E0, 0x3F80, 0x4061, 0x426F, 0x40C00000, 134, 128},
      {0x0DA2, 0x0939, 0x0A23, 0x0C2D, 0x77050000, 25, 19},
      {0x0000, 0x3C00, 0x3C00, 0x3C00, 0x3F800000, 0, 0},
  };
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.amax);
    const float amax = FromBits(row.amax);
    const auto scale = [&](Code code) {
      return Bits(MakeFloatScale(Dtype::kBF16, code, {}, amax).stored);
    };
    EXPECT_EQ(scale(Code::kE4M3), row.fp8);
    EXPECT_EQ(scale(Code::kInt8), row.int8);
    EXPECT_EQ(scale(Code::kInt4), row.int4);
    EXPECT_EQ(std::bit_cast<uint32_t>(MakeGlobalScale(Dtype::kBF16, amax)), row.global);
    EXPECT_EQ(MakePowerOfTwoScale(Dtype::kBF16, Code::kE2M1, {}, amax).byte, row.mxfp4);
    EXPECT_EQ(MakePowerOfTwoScale(Dtype::kBF16, Code::kE4M3, {}, amax).byte, row.mxfp8);
  }
}

// As Quark has them, for groups of zeros.
TEST(BlockScales, OfZerosByRule) {
  WeightRule rule;
  rule.scale_of_zeros = 0x1p-23f;
  rule.exponent_of_zeros = 1;
  EXPECT_EQ(MakeFloatScale(Dtype::kBF16, Code::kE4M3, rule, 0.0f).stored, 0x1p-23f);
  EXPECT_EQ(MakePowerOfTwoScale(Dtype::kBF16, Code::kE2M1, rule, 0.0f).byte, 1);
  rule.float_scale = WeightRule::FloatScale::kReciprocal;
  EXPECT_EQ(MakeFloatScale(Dtype::kBF16, Code::kE4M3, rule, 0.0f).stored, 1.0f);
}

TEST(BlockScales, OfSubnormalF16LikeTheTool) {
  const PowerOfTwoScale scale = MakePowerOfTwoScale(Dtype::kF16, Code::kE2M1, {}, 0x1p-20f);
  EXPECT_EQ(scale.byte, 127);
  EXPECT_EQ(scale.divisor, 1.0f);
  EXPECT_EQ(MakePowerOfTwoScale(Dtype::kF16, Code::kE2M1, {}, 6.104e-5f).byte, 111);
  EXPECT_EQ(MakePowerOfTwoScale(Dtype::kF16, Code::kE4M3, {}, 6.104e-5f).byte, 105);
  // A group of the smallest negative numbers, whose scale is 0.
  const ZeroPointScale zero_point = MakeZeroPointScale(Dtype::kF16, -0x1p-24f, 0.0f);
  EXPECT_EQ(zero_point.scale, 0x1p-10f);
  EXPECT_EQ(zero_point.zero, 7.0f);
  EXPECT_EQ(MakeZeroPointScale(Dtype::kF16, 0.0f, 0.0f).zero, 0.0f);
}

TEST(BlockScales, PowersOfTwo) {
  EXPECT_EQ(PowerOfTwo(0), 0x1p-127f);
  EXPECT_EQ(PowerOfTwo(127), 1.0f);
  EXPECT_EQ(PowerOfTwo(254), 0x1p127f);
  EXPECT_TRUE(std::isnan(PowerOfTwo(255)));
}

// A block of zeros has the scale 0.125, so that no quotient is 0 / 0.
TEST(BlockScales, TwoLevels) {
  const std::vector<float> maxima = {0.0f, 6.0f, 3.0f};
  std::vector<std::byte> scales(3);
  std::vector<float> divisors(3);
  MakeTwoLevelScales(Dtype::kBF16, 2.0f, maxima, scales, divisors);
  EXPECT_EQ(std::to_integer<int>(scales[0]), 0x20);
  EXPECT_EQ(divisors, (std::vector<float>{0.0625f, 1.0f, 0.5f}));
}

}  // namespace
}  // namespace narrow
