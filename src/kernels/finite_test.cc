#include "kernels/finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/scalar_types.h"

namespace narrow {
namespace {

// A tensor of zeros with one element of the pattern, at any place.
template <typename T>
void ExpectFinite(Dtype dtype, T bits, bool finite) {
  constexpr std::size_t kCount = 131;
  for (const std::size_t place : {std::size_t{0}, std::size_t{64}, kCount - 1}) {
    std::vector<T> values(kCount);
    values[place] = bits;
    ASSERT_EQ(AllFinite(dtype, std::as_bytes(std::span(values))), finite)
        << Name(dtype) << " " << +bits << " at " << place;
  }
}

TEST(AllFinite, EveryPatternOfEightAndSixteenBits) {
  for (int bits = 0; bits < 256; ++bits) {
    const auto code = static_cast<uint8_t>(bits);
    ExpectFinite(Dtype::kF8E4M3, code, !std::isnan(ToFloat(Float8E4M3{code})));
    ExpectFinite(Dtype::kF8E5M2, code, (code >> 2 & 31) != 31);
    ExpectFinite(Dtype::kU8, code, true);
  }
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    ExpectFinite(Dtype::kF16, half, std::isfinite(ToFloat(Float16{half})));
    ExpectFinite(Dtype::kBF16, half, std::isfinite(ToFloat(Bfloat16{half})));
  }
}

TEST(AllFinite, LongerTypesAtTheirLimits) {
  for (const uint32_t sign : {0u, 0x80000000u}) {
    for (const uint32_t bits : {0u, 1u, 0x7F7FFFFFu}) {
      ExpectFinite(Dtype::kF32, sign | bits, true);
    }
    for (const uint32_t bits : {0x7F800000u, 0x7F800001u, 0x7FFFFFFFu}) {
      ExpectFinite(Dtype::kF32, sign | bits, false);
    }
    const uint64_t wide = uint64_t{sign} << 32;
    ExpectFinite(Dtype::kF64, wide | 0x7FEFFFFFFFFFFFFFu, true);
    ExpectFinite(Dtype::kF64, wide | 0x7FF0000000000000u, false);
    ExpectFinite(Dtype::kF64, wide | 0x7FF8000000000000u, false);
  }
  EXPECT_TRUE(AllFinite(Dtype::kF32, {}));
}

}  // namespace
}  // namespace narrow
