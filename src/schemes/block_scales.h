// From the largest magnitude of a block of weights to its scale, as it is kept and as the codes are
// made with it. Scalar: a block has one scale.
// Source: compressed-tensors 0.19 and AMD Quark 0.13 on a CPU; docs/schemes.md.
#pragma once

#include <cstdint>
#include <span>

#include "schemes/tensor_scheme.h"
#include "schemes/weight_rule.h"
#include "tensor/dtype.h"

namespace narrow {

// `value` rounded to the type of the weights: BF16, F16 or F32.
float RoundTo(Dtype type, float value);

// A float scale for codes of [-largest, largest]: 448 for E4M3, 127.5 and 7.5 for integers.
struct FloatScale {
  float stored = 0.0f;   // multiplies codes
  float divisor = 0.0f;  // what GroupScales takes; with FloatScale::kReciprocal its reciprocal
};
FloatScale MakeFloatScale(Dtype type, Code code, const WeightRule& rule, float amax);

// With a zero point z in [-8, 7]: value = (q - z) * scale. `low` <= 0 <= `high`.
struct ZeroPointScale {
  float scale = 0.0f;
  float zero = 0.0f;
};
ZeroPointScale MakeZeroPointScale(Dtype type, float low, float high);

// The E8M0 byte, and the power of two that the codes are made with. `amax` is a number of the type.
struct PowerOfTwoScale {
  uint8_t byte = 0;
  float divisor = 0.0f;
};
PowerOfTwoScale MakePowerOfTwoScale(Dtype type, Code code, const WeightRule& rule, float amax);
// 2^(byte - 127); NaN for 255.
float PowerOfTwo(uint8_t byte);

// The global scale of two-level scales for a tensor with this `amax`; a divisor: value = code *
// scale / global.
float MakeGlobalScale(Dtype type, float amax);
// The E4M3 scales of blocks with these maxima, and what the codes are made with.
void MakeTwoLevelScales(Dtype type, float global, std::span<const float> maxima,
                        std::span<std::byte> scales, std::span<float> divisors);

}  // namespace narrow
