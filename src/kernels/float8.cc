#include "kernels/float8.h"

#include <cmath>
#include <cstring>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/float8.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {

constexpr uint32_t kMaxBits = 0x43E00000;          // 448 as f32
constexpr uint32_t kExponentMask = 0x7F800000;     // of f32; also infinity
constexpr uint32_t kMinExponentBits = 121u << 23;  // 2^-6, the smallest normal number
constexpr uint32_t kNanBits = 0x7FF00000;          // what PyTorch decodes 0x7F to
constexpr uint16_t kNanCode = 0x7F;

// Rounding to three mantissa bits by adding 2^(e+20), e the exponent of the value but at least -6:
// the sum has an ulp of 2^(e-3), so the addition itself rounds to nearest even, and the low bits of
// the sum count steps of 2^(e-3): 8..16 for a normal number, 0..8 for a subnormal one.
// `bits` is the f32 pattern of a magnitude; what exceeds 448 (infinity and NaN too) is 448.
// Returns the sum, sets the exponent and what was added. `offset` steps are added to the sum.
HWY_INLINE VF32 AddBinade(VU32 bits, uint32_t offset, VU32& exponent, VF32& added) {
  const DF32 df;
  const DU32 du;
  const VU32 magnitude = hn::Min(bits, hn::Set(du, kMaxBits));
  exponent = hn::Max(hn::And(magnitude, hn::Set(du, kExponentMask)), hn::Set(du, kMinExponentBits));
  added = hn::BitCast(df, hn::Add(exponent, hn::Set(du, (20u << 23) + offset)));
  return hn::Add(hn::BitCast(df, magnitude), added);
}

// The code of a magnitude in the low 8 bits of each lane; the bits above are to be dropped.
// code = steps + 8 * (exponent field - 121); 56 is -8 * 121 modulo 256.
HWY_INLINE VU32 EncodeMagnitude(VU32 bits) {
  VU32 exponent;
  VF32 added;
  const VF32 sum = AddBinade(bits, 56, exponent, added);
  return hn::Add(hn::BitCast(DU32(), sum), hn::ShiftRight<20>(exponent));
}

// The E4M3 number nearest to a magnitude, as f32 bits.
HWY_INLINE VU32 RoundMagnitude(VU32 bits) {
  VU32 exponent;
  VF32 added;
  const VF32 sum = AddBinade(bits, 0, exponent, added);
  return hn::BitCast(DU32(), hn::Sub(sum, added));
}

// How a magnitude becomes the quotient to encode.
struct DividedBy {
  float scale;
  HWY_INLINE VU32 operator()(VU32 bits) const {
    const DF32 df;
    return hn::BitCast(DU32(), hn::Div(hn::BitCast(df, bits), hn::Set(df, scale)));
  }
};

HWY_INLINE int64_t CountAbove(VU32 bits, uint32_t limit) {
  const DU32 du;
  return static_cast<int64_t>(hn::CountTrue(du, hn::Gt(bits, hn::Set(du, limit))));
}

// A vector of bfloat16 as magnitudes of its even and odd elements (f32 bits) after `quotient`.
HWY_INLINE void SplitMagnitudes(VU16 v, const DividedBy& quotient, VU32& even, VU32& odd) {
  const DU32 du;
  const VU32 both = hn::BitCast(du, v);
  even = quotient(hn::And(hn::ShiftLeft<16>(both), hn::Set(du, 0x7FFFFFFF)));
  odd = quotient(hn::And(both, hn::Set(du, 0x7FFF0000)));
}

// How many finite elements of v have a quotient above 448.
HWY_INLINE int64_t CountSaturated(VU16 v, VU32 even, VU32 odd) {
  const DU16 du;
  const auto special = hn::Gt(hn::And(v, hn::Set(du, 0x7FFF)), hn::Set(du, 0x7F7F));
  return CountAbove(even, kMaxBits) + CountAbove(odd, kMaxBits) -
         static_cast<int64_t>(hn::CountTrue(du, special));
}

int64_t QuantizeF32(const float* from, size_t count, float scale, Float8E4M3* to) {
  const DU32 du;
  const DividedBy quotient{scale};
  int64_t saturated = 0;
  const auto step = [&](const float* x, Float8E4M3* code) HWY_ATTR {
    const VU32 v = hn::BitCast(du, LoadVector(x));
    const VU32 magnitude = hn::And(v, hn::Set(du, 0x7FFFFFFF));
    const VU32 bits = quotient(magnitude);
    const auto nan = hn::Gt(magnitude, hn::Set(du, kExponentMask));
    const VU32 sign = hn::And(hn::ShiftRight<24>(v), hn::Set(du, 0x80));
    const VU32 result =
        hn::Or(hn::IfThenElse(nan, hn::Set(du, kNanCode), EncodeMagnitude(bits)), sign);
    hn::StoreU(hn::TruncateTo(DU8Quarter(), result), DU8Quarter(), Bits(code));
    saturated += CountAbove(bits, kMaxBits) - CountAbove(magnitude, kExponentMask - 1);
  };
  ForEachStep(from, count, hn::Lanes(DF32()), to, step);
  return saturated;
}

void DecodeToF32(const Float8E4M3* from, size_t count, float* to) {
  const auto step = [](const Float8E4M3* x, float* y) HWY_ATTR {
    const DF32 df;
    const DU32 du;
    const VU32 code = hn::PromoteTo(du, hn::LoadU(DU8Quarter(), Bits(x)));
    const VU32 magnitude = hn::And(code, hn::Set(du, 0x7F));
    const VU32 sign = hn::ShiftLeft<24>(hn::And(code, hn::Set(du, 0x80)));
    const VU32 shifted = hn::ShiftLeft<20>(magnitude);
    const VU32 normal = hn::Add(shifted, hn::Set(du, 120u << 23));
    // A subnormal is m * 2^-9: as the mantissa of 2^-6 it is exact, and so is taking 2^-6 off.
    const VF32 with_one = hn::BitCast(df, hn::Add(shifted, hn::Set(du, kMinExponentBits)));
    const VU32 subnormal = hn::BitCast(du, hn::Sub(with_one, hn::Set(df, 0x1p-6f)));
    VU32 bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 8)), subnormal, normal);
    const auto nan = hn::Eq(magnitude, hn::Set(du, kNanCode));
    bits = hn::IfThenElse(nan, hn::Set(du, kNanBits), bits);
    hn::StoreU(hn::BitCast(df, hn::Or(bits, sign)), df, y);
  };
  ForEachStep(from, count, hn::Lanes(DF32()), to, step);
}

// The eight subnormals, m * 2^-9, as bfloat16.
alignas(16) constexpr uint16_t kSubnormals[8] = {0,      0x3B00, 0x3B80, 0x3BC0,
                                                 0x3C00, 0x3C20, 0x3C40, 0x3C60};

void DecodeToBf16(const Float8E4M3* from, size_t count, Bfloat16* to) {
  const DU16 du;
  const VU16 table = hn::LoadDup128(du, kSubnormals);
  const auto step = [&](const Float8E4M3* x, Bfloat16* y) HWY_ATTR {
    const VU16 code = hn::PromoteTo(du, hn::LoadU(DU8Half(), Bits(x)));
    const VU16 magnitude = hn::And(code, hn::Set(du, 0x7F));
    const VU16 sign = hn::ShiftLeft<8>(hn::And(code, hn::Set(du, 0x80)));
    const VU16 normal = hn::Add(hn::ShiftLeft<4>(magnitude), hn::Set(du, 120u << 7));
    // Entry m of the table is its bytes 2m and 2m + 1.
    const VU16 index = hn::Or(hn::ShiftLeft<1>(magnitude),
                              hn::Add(hn::ShiftLeft<9>(magnitude), hn::Set(du, 0x100)));
    const VU16 in_table = hn::And(index, hn::Set(du, 0x0F0F));
    const VU16 subnormal = hn::TableLookupBytes(table, in_table);
    VU16 bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 8)), subnormal, normal);
    const auto nan = hn::Eq(magnitude, hn::Set(du, kNanCode));
    bits = hn::IfThenElse(nan, hn::Set(du, kNanBits >> 16), bits);
    hn::StoreU(hn::Or(bits, sign), du, Bits(y));
  };
  ForEachStep(from, count, hn::Lanes(du), to, step);
}

int64_t RoundBf16(Bfloat16* x, size_t count, float scale) {
  const DU16 du;
  const DividedBy quotient{scale};
  int64_t saturated = 0;
  const auto step = [&](const Bfloat16* from, Bfloat16* to) HWY_ATTR {
    const VU16 v = hn::LoadU(du, Bits(from));
    VU32 even, odd;
    SplitMagnitudes(v, quotient, even, odd);
    saturated += CountSaturated(v, even, odd);
    const VU32 both = hn::Or(hn::ShiftRight<16>(RoundMagnitude(even)), RoundMagnitude(odd));
    const auto nan = hn::Gt(hn::And(v, hn::Set(du, 0x7FFF)), hn::Set(du, 0x7F80));
    const VU16 bits = hn::IfThenElse(nan, hn::Set(du, kNanBits >> 16), hn::BitCast(du, both));
    hn::StoreU(hn::Or(bits, hn::And(v, hn::Set(du, 0x8000))), du, Bits(to));
  };
  ForEachStep(x, count, hn::Lanes(du), x, step);
  return saturated;
}

int64_t RoundF32(float* x, size_t count, float scale) {
  const DU32 du;
  const DividedBy quotient{scale};
  int64_t saturated = 0;
  const auto step = [&](const float* from, float* to) HWY_ATTR {
    const VU32 v = hn::BitCast(du, LoadVector(from));
    const VU32 magnitude = hn::And(v, hn::Set(du, 0x7FFFFFFF));
    const VU32 bits = quotient(magnitude);
    saturated += CountAbove(bits, kMaxBits) - CountAbove(magnitude, kExponentMask - 1);
    const auto nan = hn::Gt(magnitude, hn::Set(du, kExponentMask));
    const VU32 rounded = hn::IfThenElse(nan, hn::Set(du, kNanBits), RoundMagnitude(bits));
    const VU32 result = hn::Or(rounded, hn::And(v, hn::Set(du, 0x80000000u)));
    StoreVector(hn::BitCast(DF32(), result), to);
  };
  ForEachStep(x, count, hn::Lanes(du), x, step);
  return saturated;
}

// The largest magnitude among the patterns below `infinity`, and whether there were others. Signed
// lanes: magnitudes are not negative, and every target compares signed integers natively.
template <class D, typename Int = hn::TFromD<D>>
HWY_INLINE Int MaximumMagnitude(D d, const Int* x, size_t count, Int infinity, bool& finite) {
  using V = hn::Vec<D>;
  constexpr Int kMagnitude = std::numeric_limits<Int>::max();
  const size_t lanes = hn::Lanes(d);
  V maximum = hn::Zero(d);
  V largest = hn::Zero(d);
  const auto step = [&](V v) HWY_ATTR {
    const V magnitude = hn::And(v, hn::Set(d, kMagnitude));
    const auto usable = hn::Lt(magnitude, hn::Set(d, infinity));
    maximum = hn::Max(maximum, hn::IfThenElseZero(usable, magnitude));
    largest = hn::Max(largest, magnitude);
  };
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) step(hn::LoadU(d, x + i));
  if (i < count) {
    Int tail[HWY_MAX_BYTES / sizeof(Int)] = {};
    std::memcpy(tail, x + i, (count - i) * sizeof(Int));  // x may be floats
    step(hn::LoadU(d, tail));
  }
  finite = hn::AllTrue(d, hn::Lt(largest, hn::Set(d, infinity)));
  HWY_ALIGN Int lane_maxima[HWY_MAX_BYTES / sizeof(Int)];
  hn::Store(maximum, d, lane_maxima);
  return *std::max_element(lane_maxima, lane_maxima + lanes);
}
int32_t MaximumF32(const int32_t* x, size_t count, bool& finite) {
  return MaximumMagnitude(DI32(), x, count, int32_t{0x7F800000}, finite);
}
int16_t Maximum16(const int16_t* x, size_t count, int16_t infinity, bool& finite) {
  return MaximumMagnitude(DI16(), x, count, infinity, finite);
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(QuantizeF32);
HWY_EXPORT(DecodeToF32);
HWY_EXPORT(DecodeToBf16);
HWY_EXPORT(RoundBf16);
HWY_EXPORT(RoundF32);
HWY_EXPORT(MaximumF32);
HWY_EXPORT(Maximum16);

namespace {
void CheckScale(float scale) { NARROW_CHECK(scale > 0.0f && std::isfinite(scale)); }
}  // namespace

int64_t QuantizeFloat8(std::span<const float> values, float scale, std::span<Float8E4M3> codes) {
  NARROW_CHECK(values.size() == codes.size());
  CheckScale(scale);
  return HWY_DYNAMIC_DISPATCH(QuantizeF32)(values.data(), values.size(), scale, codes.data());
}

void DecodeFloat8(std::span<const Float8E4M3> codes, std::span<float> values) {
  NARROW_CHECK(values.size() == codes.size());
  HWY_DYNAMIC_DISPATCH(DecodeToF32)(codes.data(), codes.size(), values.data());
}

void DecodeFloat8(std::span<const Float8E4M3> codes, std::span<Bfloat16> values) {
  NARROW_CHECK(values.size() == codes.size());
  HWY_DYNAMIC_DISPATCH(DecodeToBf16)(codes.data(), codes.size(), values.data());
}

int64_t RoundToFloat8Grid(std::span<Bfloat16> x, float scale) {
  CheckScale(scale);
  return HWY_DYNAMIC_DISPATCH(RoundBf16)(x.data(), x.size(), scale);
}

int64_t RoundToFloat8Grid(std::span<float> x, float scale) {
  CheckScale(scale);
  return HWY_DYNAMIC_DISPATCH(RoundF32)(x.data(), x.size(), scale);
}

AbsoluteMaximum FindAbsoluteMaximum(std::span<const float> values) {
  AbsoluteMaximum result;
  const auto* bits = reinterpret_cast<const int32_t*>(values.data());
  result.amax =
      std::bit_cast<float>(HWY_DYNAMIC_DISPATCH(MaximumF32)(bits, values.size(), result.finite));
  return result;
}

AbsoluteMaximum FindAbsoluteMaximum(std::span<const Bfloat16> values) {
  AbsoluteMaximum result;
  const auto* bits = reinterpret_cast<const int16_t*>(values.data());
  const int16_t maximum =
      HWY_DYNAMIC_DISPATCH(Maximum16)(bits, values.size(), 0x7F80, result.finite);
  result.amax = ToFloat(Bfloat16{static_cast<uint16_t>(maximum)});
  return result;
}

AbsoluteMaximum FindAbsoluteMaximum(std::span<const Float16> values) {
  AbsoluteMaximum result;
  const auto* bits = reinterpret_cast<const int16_t*>(values.data());
  const int16_t maximum =
      HWY_DYNAMIC_DISPATCH(Maximum16)(bits, values.size(), 0x7C00, result.finite);
  result.amax = ToFloat(Float16{static_cast<uint16_t>(maximum)});
  return result;
}

}  // namespace narrow
#endif  // HWY_ONCE
