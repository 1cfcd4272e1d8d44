// bfloat16 and the FP8 code as distinct types, with exact scalar conversions. The SIMD versions in
// kernels/ are tested against these.
#pragma once

#include <bit>
#include <cstdint>

namespace narrow {

// Upper half of an IEEE binary32.
struct Bfloat16 {
  uint16_t bits = 0;
  friend bool operator==(Bfloat16, Bfloat16) = default;
};

inline float ToFloat(Bfloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// Rounds to nearest even; NaN stays a (quiet) NaN.
inline Bfloat16 ToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  }
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

// IEEE binary16.
struct Float16 {
  uint16_t bits = 0;
  friend bool operator==(Float16, Float16) = default;
};

float ToFloat(Float16 value);
// Rounds to nearest even; overflow becomes infinity, NaN stays a NaN.
Float16 ToFloat16(float value);

// FP8 E4M3FN: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinity, NaN is 0x7F and 0xFF.
// Source: OCP 8-bit Floating Point Specification (OFP8) 1.0, table 1.
struct Float8E4M3 {
  uint8_t bits = 0;
  friend bool operator==(Float8E4M3, Float8E4M3) = default;
};

inline constexpr float kFloat8E4M3Max = 448.0f;

float ToFloat(Float8E4M3 value);
// Rounds to nearest even and saturates at +-448 (infinities too); NaN keeps its sign and becomes
// 0x7F or 0xFF. -0 stays -0.
Float8E4M3 ToFloat8E4M3(float value);

}  // namespace narrow
