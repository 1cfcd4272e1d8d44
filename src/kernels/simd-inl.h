// Per-target building blocks of the SIMD kernels: loads and stores of the storage types as f32
// lanes, rounding to bfloat16, loops with tails, and the exponential function.
// Included once per Highway target, after hwy/foreach_target.h.
#if defined(NARROW_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NARROW_KERNELS_SIMD_INL_H_
#undef NARROW_KERNELS_SIMD_INL_H_
#else
#define NARROW_KERNELS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "tensor/scalar_types.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF32 = hn::ScalableTag<float>;
using DU32 = hn::ScalableTag<uint32_t>;
using DI32 = hn::ScalableTag<int32_t>;
using DU16 = hn::ScalableTag<uint16_t>;  // as many bits as DF32: two elements a lane
using DI16 = hn::ScalableTag<int16_t>;
using DU8 = hn::ScalableTag<uint8_t>;
using DU16Half = hn::Rebind<uint16_t, DF32>;  // one element a lane of DF32
using DU8Half = hn::Rebind<uint8_t, DU16>;
using DU8Quarter = hn::Rebind<uint8_t, DF32>;
using VF32 = hn::Vec<DF32>;
using VU32 = hn::Vec<DU32>;
using VU16 = hn::Vec<DU16>;

constexpr size_t kMaxFloatLanes = HWY_MAX_BYTES / sizeof(float);

// The integers inside the storage types.
HWY_INLINE const uint16_t* Bits(const Bfloat16* p) { return reinterpret_cast<const uint16_t*>(p); }
HWY_INLINE uint16_t* Bits(Bfloat16* p) { return reinterpret_cast<uint16_t*>(p); }
HWY_INLINE const uint16_t* Bits(const Float16* p) { return reinterpret_cast<const uint16_t*>(p); }
HWY_INLINE const uint8_t* Bits(const Float8E4M3* p) { return reinterpret_cast<const uint8_t*>(p); }
HWY_INLINE uint8_t* Bits(Float8E4M3* p) { return reinterpret_cast<uint8_t*>(p); }

// Calls op(from, to) for every `step` elements; the last, incomplete step works on zero-padded
// copies, so op always sees whole steps. from and to may be the same memory.
// REQUIRES: step <= 2 * kMaxFloatLanes.
template <typename From, typename To, class Op>
HWY_INLINE void ForEachStep(const From* from, size_t count, size_t step, To* to, const Op& op) {
  size_t i = 0;
  for (; i + step <= count; i += step) op(from + i, to + i);
  if (i == count) return;
  From from_tail[2 * kMaxFloatLanes] = {};
  To to_tail[2 * kMaxFloatLanes];
  std::copy(from + i, from + count, from_tail);
  op(static_cast<const From*>(from_tail), static_cast<To*>(to_tail));
  std::copy(to_tail, to_tail + (count - i), to + i);
}

// f32 bits whose upper half is the value rounded to bfloat16, to nearest even; NaN stays a NaN.
HWY_INLINE VU32 RoundBitsToBfloat16(VF32 value) {
  const DU32 du;
  const VU32 bits = hn::BitCast(du, value);
  const VU32 lsb = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const VU32 rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFF)), lsb);
  const VU32 quiet = hn::Or(bits, hn::Set(du, 0x400000));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

// One vector of consecutive elements.
HWY_INLINE VF32 LoadVector(const float* p) { return hn::LoadU(DF32(), p); }
HWY_INLINE VF32 LoadVector(const Bfloat16* p) {
  const VU32 wide = hn::PromoteTo(DU32(), hn::LoadU(DU16Half(), Bits(p)));
  return hn::BitCast(DF32(), hn::ShiftLeft<16>(wide));
}
HWY_INLINE VF32 LoadVector(const Float16* p) {
  const DF32 df;
  const DU32 du;
  const VU32 half = hn::PromoteTo(du, hn::LoadU(DU16Half(), Bits(p)));
  const VU32 magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(du, 0x7FFF)));
  const VU32 sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000)));
  const VU32 normal = hn::Add(magnitude, hn::Set(du, 112u << 23));
  // A subnormal is m * 2^-24: as the mantissa of 2^-14 it is exact, and so is taking 2^-14 off.
  const VF32 with_one = hn::BitCast(df, hn::Add(magnitude, hn::Set(du, 113u << 23)));
  const VU32 subnormal = hn::BitCast(du, hn::Sub(with_one, hn::Set(df, 0x1p-14f)));
  const VU32 special = hn::Or(normal, hn::Set(du, 0x7F800000));
  const VU32 finite =
      hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 0x400u << 13)), subnormal, normal);
  const auto is_finite = hn::Lt(magnitude, hn::Set(du, 0x7C00u << 13));
  return hn::BitCast(df, hn::Or(sign, hn::IfThenElse(is_finite, finite, special)));
}
HWY_INLINE void StoreVector(VF32 value, float* p) { hn::StoreU(value, DF32(), p); }
HWY_INLINE void StoreVector(VF32 value, Bfloat16* p) {
  const VU32 upper = hn::ShiftRight<16>(RoundBitsToBfloat16(value));
  hn::StoreU(hn::TruncateTo(DU16Half(), upper), DU16Half(), Bits(p));
}

// Two vectors of consecutive elements in the order that is cheapest to take apart: halves for f32,
// even and odd elements for bfloat16. StorePair is the inverse.
HWY_INLINE void LoadPair(const float* p, VF32& a, VF32& b) {
  a = LoadVector(p);
  b = LoadVector(p + hn::Lanes(DF32()));
}
HWY_INLINE void LoadPair(const Bfloat16* p, VF32& a, VF32& b) {
  const DU32 du;
  const VU32 both = hn::BitCast(du, hn::LoadU(DU16(), Bits(p)));
  a = hn::BitCast(DF32(), hn::ShiftLeft<16>(both));
  b = hn::BitCast(DF32(), hn::And(both, hn::Set(du, 0xFFFF0000u)));
}
HWY_INLINE void StorePair(VF32 a, VF32 b, float* p) {
  StoreVector(a, p);
  StoreVector(b, p + hn::Lanes(DF32()));
}
HWY_INLINE void StorePair(VF32 a, VF32 b, Bfloat16* p) {
  const DU32 du;
  const VU32 even = hn::ShiftRight<16>(RoundBitsToBfloat16(a));
  const VU32 odd = hn::And(RoundBitsToBfloat16(b), hn::Set(du, 0xFFFF0000u));
  hn::StoreU(hn::BitCast(DU16(), hn::Or(even, odd)), DU16(), Bits(p));
}

// The range where 2^n of Exp stays a normal number.
constexpr float kExpMinimum = -87.33f;
constexpr float kExpMaximum = 88.0f;

// e^x within 1.5 units in the last place. x = n ln 2 + r, |r| <= ln 2 / 2, n an integer; e^r by the
// polynomial of degree 6 with the least largest relative error (3.1e-9, by Remez exchange).
// REQUIRES: kExpMinimum <= x <= kExpMaximum, or NaN (which stays NaN).
HWY_INLINE VF32 Exp(VF32 x) {
  const DF32 df;
  const DU32 du;
  // Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits.
  const VF32 magic = hn::Set(df, 0x1.8p23f);
  const VF32 shifted = hn::MulAdd(x, hn::Set(df, 1.44269504088896340736f), magic);
  const VF32 n = hn::Sub(shifted, magic);
  // ln 2 in two parts; the first has so few bits that n times it is exact.
  VF32 r = hn::NegMulAdd(n, hn::Set(df, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(df, -2.12194440e-4f), r);
  VF32 p = hn::Set(df, 0.0013814540f);
  p = hn::MulAdd(p, r, hn::Set(df, 0.0083687451f));
  p = hn::MulAdd(p, r, hn::Set(df, 0.0416683908f));
  p = hn::MulAdd(p, r, hn::Set(df, 0.1666652040f));
  p = hn::MulAdd(p, r, hn::Set(df, 0.4999999343f));
  const VF32 power = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(df, 1.0f));
  const VU32 exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::BitCast(df, hn::Add(hn::BitCast(du, power), exponent));
}

// e^x for x <= 0 or a little above. Below kExpMinimum the result is e^kExpMinimum, 1.2e-38.
// The order of the operands of Max keeps NaN on x86.
HWY_INLINE VF32 ExpOfNegative(VF32 x) { return Exp(hn::Max(hn::Set(DF32(), kExpMinimum), x)); }

HWY_INLINE float SumOfLanes(VF32 v) { return hn::GetLane(hn::SumOfLanes(DF32(), v)); }
HWY_INLINE float MaxOfLanes(VF32 v) { return hn::GetLane(hn::MaxOfLanes(DF32(), v)); }

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#endif  // NARROW_KERNELS_SIMD_INL_H_
