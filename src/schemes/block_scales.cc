#include "schemes/block_scales.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "kernels/float8.h"
#include "tensor/scalar_types.h"

namespace narrow {
namespace {

float Epsilon(Dtype type) {
  return type == Dtype::kBF16 ? 0x1p-7f : type == Dtype::kF16 ? 0x1p-10f : 0x1p-23f;
}
float SmallestNormal(Dtype type) { return type == Dtype::kF16 ? 0x1p-14f : 0x1p-126f; }

float LargestMagnitude(Code code) {
  switch (code) {
    case Code::kE4M3:
      return kFloat8E4M3Max;
    case Code::kInt8:
      return 127.5f;
    case Code::kInt4:
      return 7.5f;
    case Code::kE2M1:
      break;
  }
  return 6.0f;
}

// The exponent field of amax, with 127 for 2^0, after a quarter of a binade was added; 0 for a
// subnormal amax.
int RoundedExponent(Dtype type, float amax) {
  if (type == Dtype::kF16) {
    const int field = (ToFloat16(amax).bits + 0x100) >> 10;
    return field == 0 ? 0 : field - 15 + 127;
  }
  if (type == Dtype::kBF16) return (ToBfloat16(amax).bits + 0x20) >> 7;
  return static_cast<int>((std::bit_cast<uint32_t>(amax) + (1u << 21)) >> 23);
}

}  // namespace

float RoundTo(Dtype type, float value) {
  if (type == Dtype::kBF16) return ToFloat(ToBfloat16(value));
  if (type == Dtype::kF16) return ToFloat(ToFloat16(value));
  return value;
}

FloatScale MakeFloatScale(Dtype type, Code code, const WeightRule& rule, float amax) {
  if (rule.float_scale == WeightRule::FloatScale::kReciprocal) {
    if (amax == 0.0f) return {1.0f, 1.0f};
    const float reciprocal = (1.0f / amax) * LargestMagnitude(code);
    return {1.0f / reciprocal, reciprocal};
  }
  float scale = RoundTo(type, amax / LargestMagnitude(code));
  if (scale == 0.0f) scale = rule.scale_of_zeros.value_or(Epsilon(type));
  return {scale, scale};
}

ZeroPointScale MakeZeroPointScale(Dtype type, float low, float high) {
  const float scale = RoundTo(type, RoundTo(type, high - low) / 15.0f);
  // lo / 0: no number, which becomes 0, for a group without negative numbers, else -infinity.
  if (scale == 0.0f) return {Epsilon(type), low < 0.0f ? 7.0f : 0.0f};
  const float zero = RoundTo(type, -8.0f - RoundTo(type, low / scale));
  return {scale, std::nearbyint(std::clamp(zero, -8.0f, 7.0f))};
}

PowerOfTwoScale MakePowerOfTwoScale(Dtype type, Code code, const WeightRule& rule, float amax) {
  const int exponent = RoundedExponent(type, amax);
  // The tool's F16 scales of such weights are no number, which becomes 1.
  if (exponent == 0 && type == Dtype::kF16) return {127, 1.0f};
  if (exponent == 0) return {rule.exponent_of_zeros, PowerOfTwo(rule.exponent_of_zeros)};
  const int largest = code == Code::kE4M3 ? 8 : 2;  // exponent of the largest number
  const auto byte = static_cast<uint8_t>(std::clamp(exponent - largest, 0, 254));
  return {byte, PowerOfTwo(byte)};
}

float PowerOfTwo(uint8_t byte) {
  if (byte == 255) return std::numeric_limits<float>::quiet_NaN();
  // 2^-127 is a subnormal number.
  return std::bit_cast<float>(byte == 0 ? 0x00400000u : static_cast<uint32_t>(byte) << 23);
}

float MakeGlobalScale(Dtype type, float amax) {
  const float reciprocal = RoundTo(type, 1.0f / std::max(amax, SmallestNormal(type)));
  const float global = RoundTo(type, kFloat8E4M3Max * 6.0f * reciprocal);
  return std::isfinite(global) ? global : 1.0f;
}

void MakeTwoLevelScales(Dtype type, float global, std::span<const float> maxima,
                        std::span<std::byte> scales, std::span<float> divisors) {
  NARROW_CHECK(maxima.size() == scales.size() && maxima.size() == divisors.size());
  static_assert(sizeof(Float8E4M3) == 1);
  const std::span codes(reinterpret_cast<Float8E4M3*>(scales.data()), scales.size());
  for (std::size_t i = 0; i < maxima.size(); ++i) {
    divisors[i] = global * RoundTo(type, maxima[i] / 6.0f);
  }
  QuantizeFloat8(divisors, 1.0f, codes);
  for (Float8E4M3& code : codes) {
    if (code.bits == 0) code.bits = 0x20;  // 0.125
  }
  DecodeFloat8(codes, divisors);
  for (float& divisor : divisors) divisor /= global;
}

}  // namespace narrow
