// The inputs of a quantized linear as the server rounds them, by scheme.
// Source: vLLM 0.32's kernels and compressed-tensors' fake_quantize; docs/schemes.md.
#pragma once

#include <span>

#include "schemes/tensor_scheme.h"

namespace narrow {

// What of an input's rounding is in the checkpoint.
struct StaticInput {
  float scale = 0.0f;   // static timing: multiplies codes
  float zero = 0.0f;    // of INT8 without symmetry
  float global = 0.0f;  // of two-level scales; a divisor
};

// Rounds one token's channels in place, in f32. A group that is not whole is rounded on its own.
// REQUIRES: the row is finite; whole groups for E2M1 codes.
void RoundInput(const TensorScheme& scheme, const StaticInput& input, std::span<float> row);

}  // namespace narrow
