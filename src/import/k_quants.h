// The K-quants of ggml: blocks of 256 numbers in 16 groups of 16 or 8 groups of 32, with a scale
// (and, where the type has one, a minimum) of 4 to 8 bits per group.
// Source: as import/dequantize.h.
#pragma once

#include <cstdint>

namespace narrow {

// Each decodes one block into 256 values.
void DecodeQ2_K(const uint8_t* block, float* values);
void DecodeQ3_K(const uint8_t* block, float* values);
void DecodeQ4_K(const uint8_t* block, float* values);
void DecodeQ5_K(const uint8_t* block, float* values);
void DecodeQ6_K(const uint8_t* block, float* values);

}  // namespace narrow
