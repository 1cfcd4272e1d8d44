#include "quantization/schemes/fp8/fp8.h"

#include <algorithm>
#include <cmath>

#include "kernels/float8.h"

namespace narrow::fp8 {
namespace {

// Of smaller scales the reciprocal would be infinite in f32.
constexpr float kSmallestScale = 0x1p-126f;
static_assert(sizeof(Float8E4M3) == 1);

std::span<Float8E4M3> AsCodes(std::span<std::byte> bytes) {
  return {reinterpret_cast<Float8E4M3*>(bytes.data()), bytes.size()};
}
std::span<const Float8E4M3> AsCodes(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const Float8E4M3*>(bytes.data()), bytes.size()};
}

}  // namespace

float Scale(float amax) {
  return amax > 0.0f ? std::max(amax / kFloat8E4M3Max, kSmallestScale) : 0x1p-23f;
}

float PowerOfTwoScale(float amax) {
  if (amax == 0.0f) return 0x1p-23f;
  int exponent = 0;
  const double mantissa = std::frexp(amax / double{kFloat8E4M3Max}, &exponent);  // in [0.5, 1)
  const double scale = std::ldexp(mantissa == 0.5 ? 0.5 : 1.0, exponent);
  return static_cast<float>(std::max(scale, double{kSmallestScale}));
}

int64_t Quantize(std::span<const float> values, float scale, std::span<std::byte> codes) {
  return QuantizeFloat8(values, scale, AsCodes(codes));
}

void Decode(std::span<const std::byte> codes, std::span<float> values) {
  DecodeFloat8(AsCodes(codes), values);
}

}  // namespace narrow::fp8
