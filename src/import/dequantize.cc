#include "import/dequantize.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "import/k_quants.h"
#include "import/scale.h"
#include "tensor/scalar_types.h"

namespace narrow {
namespace {

void DecodeF32(const uint8_t* block, float* values) { std::memcpy(values, block, sizeof(float)); }
void DecodeF16(const uint8_t* block, float* values) { *values = LoadF16(block); }
void DecodeBF16(const uint8_t* block, float* values) {
  Bfloat16 value;
  std::memcpy(&value, block, sizeof(value));
  *values = ToFloat(value);
}

// 16 bytes hold 32 numbers of 4 bits: the first 16 in the low halves, the others in the high ones.
int Nibble(const uint8_t* bytes, int i) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; }

// The fifth bit of each of 32 numbers is one of `high`.
int FiveBits(const uint8_t* high, const uint8_t* low, int i) {
  return Nibble(low, i) | ((high[i / 8] >> (i % 8)) & 1) << 4;
}

void DecodeQ4_0(const uint8_t* block, float* values) {
  const float scale = LoadF16(block);
  for (int i = 0; i < 32; ++i) values[i] = scale * static_cast<float>(Nibble(block + 2, i) - 8);
}

void DecodeQ4_1(const uint8_t* block, float* values) {
  const float scale = LoadF16(block);
  const float minimum = LoadF16(block + 2);
  for (int i = 0; i < 32; ++i) {
    values[i] = scale * static_cast<float>(Nibble(block + 4, i)) + minimum;
  }
}

void DecodeQ5_0(const uint8_t* block, float* values) {
  const float scale = LoadF16(block);
  for (int i = 0; i < 32; ++i) {
    values[i] = scale * static_cast<float>(FiveBits(block + 2, block + 6, i) - 16);
  }
}

void DecodeQ5_1(const uint8_t* block, float* values) {
  const float scale = LoadF16(block);
  const float minimum = LoadF16(block + 2);
  for (int i = 0; i < 32; ++i) {
    values[i] = scale * static_cast<float>(FiveBits(block + 4, block + 8, i)) + minimum;
  }
}

void DecodeQ8_0(const uint8_t* block, float* values) {
  const float scale = LoadF16(block);
  for (int i = 0; i < 32; ++i) values[i] = scale * static_cast<float>(LoadI8(block + 2 + i));
}

struct Decoder {
  GgufType type;
  void (*decode)(const uint8_t* block, float* values);
};

constexpr std::array kDecoders = {
    Decoder{GgufType::kF32, &DecodeF32},   Decoder{GgufType::kF16, &DecodeF16},
    Decoder{GgufType::kBF16, &DecodeBF16}, Decoder{GgufType::kQ4_0, &DecodeQ4_0},
    Decoder{GgufType::kQ4_1, &DecodeQ4_1}, Decoder{GgufType::kQ5_0, &DecodeQ5_0},
    Decoder{GgufType::kQ5_1, &DecodeQ5_1}, Decoder{GgufType::kQ8_0, &DecodeQ8_0},
    Decoder{GgufType::kQ2_K, &DecodeQ2_K}, Decoder{GgufType::kQ3_K, &DecodeQ3_K},
    Decoder{GgufType::kQ4_K, &DecodeQ4_K}, Decoder{GgufType::kQ5_K, &DecodeQ5_K},
    Decoder{GgufType::kQ6_K, &DecodeQ6_K},
};

const Decoder* FindDecoder(GgufType type) {
  const auto* found = std::ranges::find(kDecoders, type, &Decoder::type);
  return found == kDecoders.end() ? nullptr : found;
}

}  // namespace

bool CanDequantize(GgufType type) { return FindDecoder(type) != nullptr; }

void Dequantize(GgufType type, std::span<const std::byte> blocks, std::span<float> values) {
  const Decoder* decoder = FindDecoder(type);
  const GgufTypeInfo& info = Info(type);
  const auto count = static_cast<int64_t>(values.size()) / info.block_elements;
  NARROW_CHECK(decoder != nullptr);
  NARROW_CHECK(count * info.block_elements == static_cast<int64_t>(values.size()));
  NARROW_CHECK(count * info.block_bytes == static_cast<int64_t>(blocks.size()));
  const auto* block = reinterpret_cast<const uint8_t*>(blocks.data());
  for (int64_t i = 0; i < count; ++i) {
    decoder->decode(block + i * info.block_bytes, values.data() + i * info.block_elements);
  }
}

}  // namespace narrow
