#include "tensor/scalar_types.h"

#include <cmath>

namespace narrow {

float ToFloat(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1Fu;
  const uint32_t mantissa = value.bits & 0x3FFu;
  if (exponent == 0x1Fu) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

Float16 ToFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  const auto with_sign = [sign](uint32_t rest) {
    return Float16{static_cast<uint16_t>(sign | rest)};
  };
  if (magnitude > 0x7F800000u) return with_sign(0x7E00u);
  // 65520 is the midpoint between the largest finite value and the next step; ties go to infinity.
  if (magnitude >= std::bit_cast<uint32_t>(65520.0f)) return with_sign(0x7C00u);
  const float absolute = std::bit_cast<float>(magnitude);
  if (absolute < 0x1p-14f) {
    // Subnormal steps are 2^-24; nearbyint rounds ties to even and carries into the first normal.
    return with_sign(static_cast<uint32_t>(std::nearbyint(std::ldexp(absolute, 24))));
  }
  const uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return with_sign((rounded >> 13) - (112u << 10));
}

float ToFloat(Float8E4M3 value) {
  const uint32_t exponent = (value.bits >> 3) & 0xFu;
  const uint32_t mantissa = value.bits & 0x7u;
  const float sign = (value.bits & 0x80u) != 0 ? -1.0f : 1.0f;
  // The payload is that of PyTorch.
  if (exponent == 0xFu && mantissa == 7u) {
    return std::bit_cast<float>((value.bits & 0x80u) << 24 | 0x7FF00000u);
  }
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8u + mantissa), static_cast<int>(exponent) - 10);
}

Float8E4M3 ToFloat8E4M3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return {static_cast<uint8_t>(sign | 0x7Fu)};
  if (magnitude >= kFloat8E4M3Max) return {static_cast<uint8_t>(sign | 0x7Eu)};
  if (magnitude < 0x1p-6f) {
    // Subnormal steps are 2^-9; eight of them carry into the first normal code, 0x08.
    const auto steps = static_cast<uint8_t>(std::nearbyint(std::ldexp(magnitude, 9)));
    return {static_cast<uint8_t>(sign | steps)};
  }
  int exponent = 0;
  const float fraction = std::frexp(magnitude, &exponent);                            // in [0.5, 1)
  const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(fraction, 4)));  // 8..16
  // A carry to 16 is the next binade: the addition below moves it into the exponent field.
  const uint32_t code = (static_cast<uint32_t>(exponent + 6) << 3) + (steps - 8u);
  return {static_cast<uint8_t>(sign | code)};
}

}  // namespace narrow
