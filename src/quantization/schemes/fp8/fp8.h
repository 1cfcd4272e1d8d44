// FP8 E4M3FN with one scale per tensor, symmetric, round to nearest even, saturating.
// Source: docs/formats/checkpoint.md, section Numerics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace narrow::fp8 {

// amax / 448 in f32; 2^-23 for a tensor of zeros (as Quark 0.13).
float Scale(float amax);
// The smallest power of two that is not below amax / 448, nor below the smallest normal f32; 2^-23
// for a tensor of zeros.
float PowerOfTwoScale(float amax);
int64_t Quantize(std::span<const float> values, float scale, std::span<std::byte> codes);
void Decode(std::span<const std::byte> codes, std::span<float> values);

}  // namespace narrow::fp8
