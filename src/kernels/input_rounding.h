// Inputs of a product as a quantized linear sees them: rounded to the numbers of a code and scaled
// back, with a scale for each group of columns.
// SIMD on every target Highway finds at run time; bit-identical to the scalar reference on each.
// Runs on the calling thread. Source: fake_quantize of compressed-tensors 0.19 (the quotient to the
// nearest, ties to even, times the scale); vLLM 0.32's INT8 kernel takes x * (127 / amax) for the
// quotient, which differs in its last bit.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/group_codes.h"

namespace narrow {

struct GridRule {
  enum class Numbers : uint8_t { kE4M3, kE2M1, kIntegers } numbers = Numbers::kE4M3;
  float lowest = -128.0f;  // of kIntegers
  float highest = 127.0f;
};

// row[c] = nearest(row[c] / scale) * scale, both in f32; to nearest even, saturating. NaN becomes
// some number. REQUIRES: scales > 0, for each group of the row.
void RoundToGrid(std::span<float> row, const GroupScales& scales, const GridRule& rule);

}  // namespace narrow
