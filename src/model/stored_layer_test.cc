#include "model/stored_layer.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace narrow {
namespace {

// All 65,536 codes of a 16-bit type but NaN, through f32 and back.
void ExpectAllBack(Dtype dtype) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const auto bits = static_cast<uint16_t>(code);
    std::array<std::byte, 2> bytes, back;
    std::memcpy(bytes.data(), &bits, 2);
    float value = 0;
    ConvertRow(dtype, bytes, std::span(&value, 1));
    if (std::isnan(value)) continue;
    StoreRow(dtype, std::span(&value, 1), back);
    ASSERT_EQ(bytes, back) << Name(dtype) << " " << code;
  }
}

TEST(StoreRow, GivesBackWhatWasStored) {
  ExpectAllBack(Dtype::kBF16);
  ExpectAllBack(Dtype::kF16);
  std::mt19937 random(3);
  std::vector<float> values(1000);
  for (float& value : values) value = std::ldexp(static_cast<float>(random()), -40);
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  StoreRow(Dtype::kF32, values, bytes);
  EXPECT_EQ(std::memcmp(bytes.data(), values.data(), bytes.size()), 0);
}

}  // namespace
}  // namespace narrow
