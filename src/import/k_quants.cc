#include "import/k_quants.h"

#include "import/scale.h"

namespace narrow {
namespace {

constexpr int kBlock = 256;

// Numbers of 2 bits are packed in 32 bytes per 128: number i sits in byte i % 32 of its half, at
// bit pair (i / 32) % 4.
int TwoBits(const uint8_t* bytes, int i) {
  return (bytes[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2)) & 3;
}

// Numbers of 4 bits are packed in 32 bytes per 64: the first 32 in the low halves.
int FourBits(const uint8_t* bytes, int i) {
  return (bytes[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4)) & 15;
}

// Scale or minimum of one of 8 groups: 6 bits each in 12 bytes. Groups 0-3 use the low 6 bits of
// bytes 0-3 (scales) and 4-7 (minima); 4-7 have 4 bits in bytes 8-11 and the rest on top of those.
struct GroupScale {
  int scale;
  int minimum;
};
GroupScale SixBits(const uint8_t* bytes, int group) {
  if (group < 4) return {bytes[group] & 63, bytes[group + 4] & 63};
  return {(bytes[group + 4] & 15) | (bytes[group - 4] >> 6) << 4,
          (bytes[group + 4] >> 4) | (bytes[group] >> 6) << 4};
}

// What Q4_K and Q5_K share; `number(i)` is the i-th unscaled number.
template <typename Number>
void DecodeGroupsOf32(const uint8_t* block, Number number, float* values) {
  const float scale = LoadF16(block);
  const float minimum_scale = LoadF16(block + 2);
  for (int group = 0; group < kBlock / 32; ++group) {
    const GroupScale packed = SixBits(block + 4, group);
    const float step = scale * static_cast<float>(packed.scale);
    const float minimum = minimum_scale * static_cast<float>(packed.minimum);
    for (int i = group * 32; i < group * 32 + 32; ++i) {
      values[i] = step * static_cast<float>(number(i)) - minimum;
    }
  }
}

// Scale of one of 16 groups of Q3_K: 4 bits in bytes 0-7, 2 more in bytes 8-11, less 32.
int Q3GroupScale(const uint8_t* bytes, int group) {
  const int low = group < 8 ? bytes[group] & 15 : bytes[group - 8] >> 4;
  const int high = (bytes[8 + group % 4] >> (group / 4 * 2)) & 3;
  return (low | high << 4) - 32;
}

}  // namespace

// scales[16] (4 bits scale, 4 bits minimum), numbers[64], f16 scale, f16 minimum scale
void DecodeQ2_K(const uint8_t* block, float* values) {
  const float scale = LoadF16(block + 80);
  const float minimum_scale = LoadF16(block + 82);
  for (int i = 0; i < kBlock; ++i) {
    const uint8_t packed = block[i / 16];
    values[i] =
        scale * static_cast<float>(packed & 15) * static_cast<float>(TwoBits(block + 16, i)) -
        minimum_scale * static_cast<float>(packed >> 4);
  }
}

// high bits[32], numbers[64], scales[12], f16 scale. A clear high bit means minus 4.
void DecodeQ3_K(const uint8_t* block, float* values) {
  const float scale = LoadF16(block + 108);
  for (int i = 0; i < kBlock; ++i) {
    const int high = (block[i % 32] >> (i / 32)) & 1;
    const int number = TwoBits(block + 32, i) - (high != 0 ? 0 : 4);
    values[i] =
        scale * static_cast<float>(Q3GroupScale(block + 96, i / 16)) * static_cast<float>(number);
  }
}

// f16 scale, f16 minimum scale, scales[12], numbers[128]
void DecodeQ4_K(const uint8_t* block, float* values) {
  DecodeGroupsOf32(
      block, [&](int i) { return FourBits(block + 16, i); }, values);
}

// f16 scale, f16 minimum scale, scales[12], high bits[32], numbers[128]
void DecodeQ5_K(const uint8_t* block, float* values) {
  const auto number = [&](int i) {
    return FourBits(block + 48, i) | ((block[16 + i % 32] >> (i / 32)) & 1) << 4;
  };
  DecodeGroupsOf32(block, number, values);
}

// low 4 bits[128], high 2 bits[64], scales[16] (i8), f16 scale. The low bits of 128 numbers lie in
// 64 bytes: the first 64 numbers in the low halves.
void DecodeQ6_K(const uint8_t* block, float* values) {
  const float scale = LoadF16(block + 208);
  for (int i = 0; i < kBlock; ++i) {
    const int low = (block[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4)) & 15;
    const int number = (low | TwoBits(block + 128, i) << 4) - 32;
    values[i] =
        scale * static_cast<float>(LoadI8(block + 192 + i / 16)) * static_cast<float>(number);
  }
}

}  // namespace narrow
