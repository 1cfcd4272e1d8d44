// What tools do differently where the scheme of a weight leaves a choice, so that the bytes of each
// can be made. The rules of the formats are in formats/.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/group_codes.h"

namespace narrow {

struct WeightRule {
  // How float scales are worked out and kept.
  enum class FloatScale : uint8_t {
    kStored,      // amax / largest, rounded to the weight's type and kept in it
    kReciprocal,  // 1 / (448 / amax), in F32: numbers are multiplied by 448 / amax
  } float_scale = FloatScale::kStored;
  // Where amax is too small for a float scale; nothing: the weight's type's distance from 1 to the
  // next number.
  std::optional<float> scale_of_zeros;
  uint8_t exponent_of_zeros = 0;  // the same for E8M0 scales
  CodeRule code;                  // the quotient is for float scales; others are exact or f32
};

}  // namespace narrow
