#include "kernels/column_maximum.h"

#include <bit>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/column_maximum.cc"
#include <hwy/foreach_target.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {

float AsFloat(float value) { return value; }
float AsFloat(Bfloat16 value) { return ToFloat(value); }

// Bits without the sign order like magnitudes, NaN above all.
template <typename T>
void IncludeMatrix(MatrixView<const T> x, float* maxima) {
  const DI32 di;
  const size_t lanes = hn::Lanes(DF32());
  const auto columns = static_cast<size_t>(x.columns);
  const auto magnitude = [&](const T* p) {
    return hn::And(hn::BitCast(di, LoadVector(p)), hn::Set(di, 0x7FFFFFFF));
  };
  const auto load = [&](size_t c) { return hn::BitCast(di, LoadVector(maxima + c)); };
  const auto store = [&](hn::Vec<DI32> v, size_t c) {
    StoreVector(hn::BitCast(DF32(), v), maxima + c);
  };
  size_t c = 0;
  for (; c + 4 * lanes <= columns; c += 4 * lanes) {
    auto m0 = load(c), m1 = load(c + lanes), m2 = load(c + 2 * lanes), m3 = load(c + 3 * lanes);
    for (int64_t r = 0; r < x.rows; ++r) {
      const T* row = x.Row(r) + c;
      m0 = hn::Max(m0, magnitude(row)), m1 = hn::Max(m1, magnitude(row + lanes));
      m2 = hn::Max(m2, magnitude(row + 2 * lanes)), m3 = hn::Max(m3, magnitude(row + 3 * lanes));
    }
    store(m0, c), store(m1, c + lanes), store(m2, c + 2 * lanes), store(m3, c + 3 * lanes);
  }
  for (; c < columns; ++c) {
    auto bits = std::bit_cast<int32_t>(maxima[c]);
    for (int64_t r = 0; r < x.rows; ++r) {
      bits = std::max(bits, std::bit_cast<int32_t>(AsFloat(x.Row(r)[c])) & 0x7FFFFFFF);
    }
    maxima[c] = std::bit_cast<float>(bits);
  }
}

void IncludeFloat(MatrixView<const float> x, float* maxima) { IncludeMatrix(x, maxima); }
void IncludeBfloat16(MatrixView<const Bfloat16> x, float* maxima) { IncludeMatrix(x, maxima); }

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(IncludeFloat);
HWY_EXPORT(IncludeBfloat16);

template <typename T>
void IncludeColumnMaxima(MatrixView<const T> rows, std::span<float> maxima) {
  NARROW_CHECK(std::ssize(maxima) == rows.columns);
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(IncludeFloat)(rows, maxima.data());
  } else {
    HWY_DYNAMIC_DISPATCH(IncludeBfloat16)(rows, maxima.data());
  }
}

template void IncludeColumnMaxima<float>(MatrixView<const float>, std::span<float>);
template void IncludeColumnMaxima<Bfloat16>(MatrixView<const Bfloat16>, std::span<float>);

}  // namespace narrow
#endif  // HWY_ONCE
