// Conversions between floating-point storage types and FP8 E4M3FN, and range measurements.
// SIMD on every target Highway finds at run time; bit-identical to the scalar reference on each.
// All functions run on the calling thread. Source of the numerics: OCP OFP8 1.0; spec of the
// checkpoint in docs/formats/checkpoint.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "tensor/scalar_types.h"

namespace narrow {

// codes[i] = E4M3(values[i] * (1 / scale)), division done exactly as values[i] / scale in f32,
// rounded to nearest even, saturated at +-448. NaN becomes a NaN code.
// REQUIRES: sizes are equal, scale > 0 and finite. Returns how many finite inputs exceeded 448
// steps of `scale` in magnitude (they saturated).
int64_t QuantizeFloat8(std::span<const float> values, float scale, std::span<Float8E4M3> codes);

// values[i] = code as a number; exact in both f32 and bf16.
void DecodeFloat8(std::span<const Float8E4M3> codes, std::span<float> values);
void DecodeFloat8(std::span<const Float8E4M3> codes, std::span<Bfloat16> values);

// x[i] becomes the E4M3 number nearest to x[i] / scale (a value in [-448, 448], exact in bf16):
// the quantized input of a matrix product whose result is multiplied by `scale` afterwards.
// Returns the number of saturated inputs.
int64_t RoundToFloat8Grid(std::span<Bfloat16> x, float scale);
int64_t RoundToFloat8Grid(std::span<float> x, float scale);

// The largest magnitude, and whether a NaN or infinity was met (amax then covers the finite ones).
struct AbsoluteMaximum {
  float amax = 0.0f;
  bool finite = true;
};

// Merges two parts of one tensor. Commutative and associative, so the result does not depend on how
// the tensor was split.
inline AbsoluteMaximum Merge(const AbsoluteMaximum& a, const AbsoluteMaximum& b) {
  return {std::max(a.amax, b.amax), a.finite && b.finite};
}

AbsoluteMaximum FindAbsoluteMaximum(std::span<const float> values);
AbsoluteMaximum FindAbsoluteMaximum(std::span<const Bfloat16> values);
AbsoluteMaximum FindAbsoluteMaximum(std::span<const Float16> values);

}  // namespace narrow
