// Unaligned little-endian numbers inside quantized blocks.
#pragma once

#include <cstdint>
#include <cstring>

#include "tensor/scalar_types.h"

namespace narrow {

inline float LoadF16(const uint8_t* bytes) {
  Float16 value;
  std::memcpy(&value, bytes, sizeof(value));
  return ToFloat(value);
}

inline int LoadI8(const uint8_t* byte) { return static_cast<int8_t>(*byte); }

}  // namespace narrow
