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

// f32 bits whose upper half is the value rounded to bfloat16, to nearest even. A NaN stays one if
// its lower half is zero, as in a NaN of arithmetic or of bfloat16.
HWY_INLINE VU32 RoundBits(VF32 value) {
  const DU32 du;
  const VU32 bits = hn::BitCast(du, value);
  const VU32 lsb = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  return hn::Add(hn::Add(bits, hn::Set(du, 0x7FFF)), lsb);
}
// The same for values that may be any NaN.
HWY_INLINE VU32 RoundBitsKeepingNan(VF32 value) {
  const DU32 du;
  const VU32 quiet = hn::Or(hn::BitCast(du, value), hn::Set(du, 0x400000));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, RoundBits(value));
}
// The same with ties away from zero, which costs a third.
HWY_INLINE VU32 RoundBitsTiesAway(VF32 value) {
  const DU32 du;
  return hn::Add(hn::BitCast(du, value), hn::Set(du, 0x8000));
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
  const VU32 upper = hn::ShiftRight<16>(RoundBits(value));
  hn::StoreU(hn::TruncateTo(DU16Half(), upper), DU16Half(), Bits(p));
}

// Two vectors of consecutive elements, in order.
HWY_INLINE void StoreTwo(VF32 first, VF32 second, float* p) {
  StoreVector(first, p);
  StoreVector(second, p + hn::Lanes(DF32()));
}
HWY_INLINE void StoreUpperHalves(VU32 first, VU32 second, Bfloat16* p) {
  const DU16 du;
  hn::StoreU(hn::ConcatOdd(du, hn::BitCast(du, second), hn::BitCast(du, first)), du, Bits(p));
}
HWY_INLINE void StoreTwo(VF32 first, VF32 second, Bfloat16* p) {
  StoreUpperHalves(RoundBits(first), RoundBits(second), p);
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
HWY_INLINE void StorePair(VF32 a, VF32 b, float* p) { StoreTwo(a, b, p); }
HWY_INLINE void StorePair(VF32 a, VF32 b, Bfloat16* p) {
  const DU32 du;
  const VU32 even = hn::ShiftRight<16>(RoundBits(a));
  const VU32 odd = hn::And(RoundBits(b), hn::Set(du, 0xFFFF0000u));
  hn::StoreU(hn::BitCast(DU16(), hn::Or(even, odd)), DU16(), Bits(p));
}

// The range of Exp: where 2^n is a normal number, and its reciprocal too.
constexpr float kExpMinimum = -87.33f;
constexpr float kExpMaximum = 87.0f;

// e^x with a relative error up to 2^-23 (1 + |x| / 9), the second term from rounding log2 e; on
// targets without fused multiply-add up to 2^-23 (1 + |x| / 1.6), from rounding x log2 e.
// x log2 e = n + f with n an integer and |f| <= 1/2; 2^f by the polynomial of degree 6 with value 1
// at 0 that has the least largest relative error (3.9e-9, by Remez exchange).
// REQUIRES: kExpMinimum <= x <= kExpMaximum, or NaN (which stays NaN).
HWY_INLINE VF32 Exp(VF32 x) {
  const DF32 df;
  const DU32 du;
  const VF32 log2e = hn::Set(df, 1.44269504088896340736f);
  // Adding 1.5 * 2^23 leaves the nearest integer in the low mantissa bits.
  const VF32 magic = hn::Set(df, 0x1.8p23f);
  const VF32 shifted = hn::MulAdd(x, log2e, magic);
  const VF32 f = hn::MulSub(x, log2e, hn::Sub(shifted, magic));
  VF32 p = hn::Set(df, 1.5469838e-4f);
  p = hn::MulAdd(p, f, hn::Set(df, 1.3410124e-3f));
  p = hn::MulAdd(p, f, hn::Set(df, 9.6180305e-3f));
  p = hn::MulAdd(p, f, hn::Set(df, 5.5502969e-2f));
  p = hn::MulAdd(p, f, hn::Set(df, 2.4022651e-1f));
  p = hn::MulAdd(p, f, hn::Set(df, 6.9314723e-1f));
  p = hn::MulAdd(p, f, hn::Set(df, 1.0f));
  const VU32 exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::BitCast(df, hn::Add(hn::BitCast(du, p), exponent));
}

// e^x for x <= 0 or a little above. Below kExpMinimum the result is e^kExpMinimum, 1.2e-38.
// The order of the operands of Max keeps NaN on x86.
HWY_INLINE VF32 ExpOfNegative(VF32 x) { return Exp(hn::Max(hn::Set(DF32(), kExpMinimum), x)); }

// a / b within 2 units in the last place. REQUIRES: 1 <= b <= 2^126, or NaN.
HWY_INLINE VF32 FastDivide(VF32 a, VF32 b) {
#if HWY_ARCH_X86
  // The estimate has 11 bits or more and one Newton step doubles them; elsewhere it can have 8.
  const VF32 estimate = hn::ApproximateReciprocal(b);
  const VF32 quotient = hn::Mul(a, estimate);
  return hn::MulAdd(hn::NegMulAdd(quotient, b, a), estimate, quotient);
#else
  return hn::Div(a, b);
#endif
}

HWY_INLINE float SumOfLanes(VF32 v) { return hn::GetLane(hn::SumOfLanes(DF32(), v)); }
HWY_INLINE float MaxOfLanes(VF32 v) { return hn::GetLane(hn::MaxOfLanes(DF32(), v)); }

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#endif  // NARROW_KERNELS_SIMD_INL_H_
