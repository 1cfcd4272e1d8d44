#include "kernels/group_checks.h"
#include "kernels/group_codes.h"
#include "tensor/scalar_types.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/group_decoding.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/stored_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using rows::ForGroups;
using rows::Pair;
using rows::Wide;

// Numbers of E4M3 codes in the low 8 bits of each lane.
HWY_INLINE hn::Vec<Wide> NumbersOfE4M3(rows::Unsigned<Wide> code) {
  const Wide d;
  const auto magnitude = hn::ShiftLeft<20>(hn::And(code, rows::Constant(d, 0x7F)));
  const auto sign = hn::ShiftLeft<24>(hn::And(code, rows::Constant(d, 0x80)));
  // Read as an f32 it has an exponent that is 120 too small; subnormals come out right.
  const auto tiny = hn::BitCast(d, magnitude);
  const auto finite = hn::Mul(tiny, hn::Set(d, 0x1p120f));
  const auto nan = hn::Eq(magnitude, rows::Constant(d, 0x7Fu << 20));
  const auto value = hn::IfThenElse(hn::RebindMask(d, nan), hn::NaN(d), finite);
  return hn::Or(value, hn::BitCast(d, sign));
}

// Twice the numbers of E2M1 codes, as signed bytes.
alignas(16) constexpr int8_t kTwiceE2M1[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                               0, -1, -2, -3, -4, -6, -8, -12};

// Columns of packed codes as numbers before the scale: `numbers` makes those of a vector of bytes,
// each of which holds one code.
template <class Numbers>
HWY_INLINE void DecodeNibbles(const std::byte* from, const GroupScales& scales, int64_t columns,
                              float* values, const Numbers& numbers) {
  const Pair d;
  const hn::Rebind<uint8_t, Pair> bytes;
  const size_t lanes = hn::Lanes(d);
  const auto* codes = reinterpret_cast<const uint8_t*>(from);
  ForGroups(columns, scales.group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
    const auto scale = hn::Set(d, scales.scales[g]);
    for (size_t i = first; i < first + count; i += 2 * lanes) {
      const auto both =
          hn::PromoteTo(hn::Rebind<uint32_t, Pair>(), hn::LoadU(bytes, codes + i / 2));
      const auto even = numbers(g, hn::And(both, rows::Constant(d, 0xF)));
      const auto odd = numbers(g, hn::ShiftRight<4>(both));
      hn::StoreInterleaved2(hn::Mul(even, scale), hn::Mul(odd, scale), d, values + i);
    }
  });
}

// Codes of a byte as numbers times their group's scale: `numbers` makes those of a vector, `number`
// one.
template <class Code, class Numbers, class Number>
HWY_INLINE void DecodeBytes(const std::byte* codes, const GroupScales& scales, int64_t columns,
                            float* values, const Numbers& numbers, const Number& number) {
  const Wide d;
  const hn::Rebind<Code, Wide> bytes;
  const auto* from = reinterpret_cast<const Code*>(codes);
  ForGroups(columns, scales.group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
    const auto scale = hn::Set(d, scales.scales[g]);
    size_t i = first;
    for (; i + hn::Lanes(d) <= first + count; i += hn::Lanes(d)) {
      hn::StoreU(hn::Mul(numbers(hn::LoadU(bytes, from + i)), scale), d, values + i);
    }
    for (; i < first + count; ++i) values[i] = number(from[i]) * scales.scales[g];
  });
}

}  // namespace

void DecodeBytesE4M3(const std::byte* codes, const GroupScales& scales, int64_t columns,
                     float* values) {
  DecodeBytes<uint8_t>(
      codes, scales, columns, values,
      [](auto code)
          HWY_ATTR { return NumbersOfE4M3(hn::PromoteTo(hn::Rebind<uint32_t, Wide>(), code)); },
      [](uint8_t code) { return ToFloat(Float8E4M3{code}); });
}
void DecodeBytesInt8(const std::byte* codes, const GroupScales& scales, int64_t columns,
                     float* values) {
  DecodeBytes<int8_t>(
      codes, scales, columns, values,
      [](auto code) HWY_ATTR {
        return hn::ConvertTo(Wide(), hn::PromoteTo(hn::Rebind<int32_t, Wide>(), code));
      },
      [](int8_t code) { return static_cast<float>(code); });
}
void DecodeNibblesE2M1(const std::byte* codes, const GroupScales& scales, int64_t columns,
                       float* values) {
  DecodeNibbles(codes, scales, columns, values, [&](size_t, rows::Unsigned<Pair> code) HWY_ATTR {
    const Pair d;
    const hn::Repartition<int8_t, Pair> bytes;
    const auto table = hn::LoadDup128(bytes, kTwiceE2M1);
    // The byte in the highest place of each lane, so that its sign is the lane's.
    const auto index = hn::BitCast(bytes, hn::ShiftLeft<24>(code));
    const auto twice = hn::ShiftRight<24>(
        hn::BitCast(hn::Rebind<int32_t, Pair>(), hn::TableLookupBytes(table, index)));
    const auto number = hn::Mul(hn::ConvertTo(d, twice), hn::Set(d, 0.5f));
    const auto sign = hn::ShiftLeft<28>(hn::And(code, rows::Constant(d, 8)));
    return hn::Or(number, hn::BitCast(d, sign));
  });
}
void DecodeNibblesInt4(const std::byte* codes, const GroupScales& scales,
                       std::span<const float> zeros, int64_t columns, float* values) {
  DecodeNibbles(codes, scales, columns, values, [&](size_t g, rows::Unsigned<Pair> code) HWY_ATTR {
    const Pair d;
    const float zero = 8.0f + (zeros.empty() ? 0.0f : zeros[g]);
    const auto number = hn::ConvertTo(d, hn::BitCast(hn::Rebind<int32_t, Pair>(), code));
    return hn::Sub(number, hn::Set(d, zero));
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(DecodeBytesE4M3);
HWY_EXPORT(DecodeBytesInt8);
HWY_EXPORT(DecodeNibblesE2M1);
HWY_EXPORT(DecodeNibblesInt4);

void DecodeE4M3(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<float> values) {
  CheckByteCodes(static_cast<int64_t>(values.size()), scales, codes.size());
  HWY_DYNAMIC_DISPATCH(DecodeBytesE4M3)
  (codes.data(), scales, static_cast<int64_t>(values.size()), values.data());
}

void DecodeInt8(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<float> values) {
  CheckByteCodes(static_cast<int64_t>(values.size()), scales, codes.size());
  HWY_DYNAMIC_DISPATCH(DecodeBytesInt8)
  (codes.data(), scales, static_cast<int64_t>(values.size()), values.data());
}

void DecodeE2M1(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<float> values) {
  CheckNibbleCodes(static_cast<int64_t>(values.size()), scales, codes.size());
  HWY_DYNAMIC_DISPATCH(DecodeNibblesE2M1)
  (codes.data(), scales, static_cast<int64_t>(values.size()), values.data());
}

void DecodeInt4(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<const float> zeros, std::span<float> values) {
  CheckNibbleCodes(static_cast<int64_t>(values.size()), scales, codes.size());
  NARROW_CHECK(zeros.empty() || zeros.size() == scales.scales.size());
  HWY_DYNAMIC_DISPATCH(DecodeNibblesInt4)
  (codes.data(), scales, zeros, static_cast<int64_t>(values.size()), values.data());
}

}  // namespace narrow
#endif  // HWY_ONCE
