#include "kernels/transpose.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/every_target.h"

namespace narrow {
namespace {

template <typename T>
T Element(uint32_t i) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(i);
  } else {
    return Bfloat16{static_cast<uint16_t>(i)};
  }
}

template <typename T>
uint32_t Bits(T value) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<uint32_t>(value);
  } else {
    return value.bits;
  }
}

// Parts of larger matrices, whose other elements stay.
template <typename T>
void ExpectTransposed(int64_t rows, int64_t columns) {
  constexpr uint32_t kUntouched = 0x7777;
  const int64_t from_stride = columns + 3, to_stride = rows + 5;
  std::vector<T> from, to(static_cast<std::size_t>(columns * to_stride), Element<T>(kUntouched));
  for (int64_t i = 0; i < rows * from_stride; ++i) {
    from.push_back(Element<T>(static_cast<uint32_t>(i * 40503) & 0xFFFF));
  }
  Transpose<T>({from.data(), rows, columns, from_stride}, {to.data(), columns, rows, to_stride});
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < to_stride; ++r) {
      const uint32_t expected =
          r < rows ? Bits(from[static_cast<std::size_t>(r * from_stride + c)]) : kUntouched;
      ASSERT_EQ(Bits(to[static_cast<std::size_t>(c * to_stride + r)]), expected) << r << ", " << c;
    }
  }
}

TEST(TransposeTest, SwapsRowsAndColumnsOnEveryTarget) {
  OnEveryTarget([] {
    for (const int64_t rows : {1, 7, 8, 32, 45}) {
      for (const int64_t columns : {1, 5, 8, 40, 67}) {
        ExpectTransposed<float>(rows, columns);
        ExpectTransposed<Bfloat16>(rows, columns);
      }
    }
  });
}

}  // namespace
}  // namespace narrow
