// Blocks of GGUF tensors as f32 numbers.
#pragma once

#include <cstddef>
#include <span>

#include "io/gguf.h"

namespace narrow {

// Whether Dequantize() knows the type: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to
// Q6_K.
bool CanDequantize(GgufType type);

// Values of consecutive blocks, as ggml computes them: products of the f16 scales in f32.
// REQUIRES: CanDequantize(type), values.size() is a multiple of the block's elements and
// blocks.size() the matching number of bytes.
// Source: the block structures of ggml, as gguf-py 0.19 decodes them (gguf/quants.py).
void Dequantize(GgufType type, std::span<const std::byte> blocks, std::span<float> values);

}  // namespace narrow
