// Rows of BF16, F16 and F32 as f32 lanes of a vector type of the caller's, and rounding to these
// types and to small floats. Included once per Highway target, after hwy/foreach_target.h.
#if defined(NARROW_KERNELS_STORED_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NARROW_KERNELS_STORED_ROWS_INL_H_
#undef NARROW_KERNELS_STORED_ROWS_INL_H_
#else
#define NARROW_KERNELS_STORED_ROWS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "tensor/scalar_types.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace rows {
namespace hn = hwy::HWY_NAMESPACE;

// D: a tag of float lanes.
template <class D>
using Unsigned = hn::Vec<hn::Rebind<uint32_t, D>>;

template <class D>
HWY_INLINE Unsigned<D> Bits(D, hn::Vec<D> value) {
  return hn::BitCast(hn::Rebind<uint32_t, D>(), value);
}
template <class D>
HWY_INLINE Unsigned<D> Constant(D, uint32_t value) {
  return hn::Set(hn::Rebind<uint32_t, D>(), value);
}

// A half in the low bits of each lane as f32.
template <class D>
HWY_INLINE hn::Vec<D> WidenHalf(D d, Unsigned<D> half) {
  const auto magnitude = hn::ShiftLeft<13>(hn::And(half, Constant(d, 0x7FFF)));
  const auto sign = hn::ShiftLeft<16>(hn::And(half, Constant(d, 0x8000)));
  const auto normal = hn::Add(magnitude, Constant(d, 112u << 23));
  // A subnormal is m * 2^-24: as the mantissa of 2^-14 it is exact, and so is taking 2^-14 off.
  const auto with_one = hn::BitCast(d, hn::Add(magnitude, Constant(d, 113u << 23)));
  const auto subnormal = Bits(d, hn::Sub(with_one, hn::Set(d, 0x1p-14f)));
  const auto is_normal = hn::Gt(magnitude, Constant(d, 0x3FFu << 13));
  const auto special = hn::Gt(magnitude, Constant(d, 0x7BFFu << 13));
  const auto finite = hn::IfThenElse(is_normal, normal, subnormal);
  const auto bits = hn::IfThenElse(special, hn::Or(normal, Constant(d, 0x7F800000)), finite);
  return hn::BitCast(d, hn::Or(sign, bits));
}

// Consecutive elements.
template <class D>
HWY_INLINE hn::Vec<D> Load(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE Unsigned<D> LoadWords(D, const uint16_t* p) {
  return hn::PromoteTo(hn::Rebind<uint32_t, D>(), hn::LoadU(hn::Rebind<uint16_t, D>(), p));
}
template <class D>
HWY_INLINE hn::Vec<D> Load(D d, const Bfloat16* p) {
  return hn::BitCast(d, hn::ShiftLeft<16>(LoadWords(d, reinterpret_cast<const uint16_t*>(p))));
}
template <class D>
HWY_INLINE hn::Vec<D> Load(D d, const Float16* p) {
  return WidenHalf(d, LoadWords(d, reinterpret_cast<const uint16_t*>(p)));
}

// Two vectors of consecutive elements, taken apart by even and odd places.
template <class D>
HWY_INLINE void LoadEvenOdd(D d, const float* p, hn::Vec<D>& even, hn::Vec<D>& odd) {
  hn::LoadInterleaved2(d, p, even, odd);
}
template <class D>
HWY_INLINE Unsigned<D> LoadBoth(D, const void* p) {
  const hn::Rebind<uint32_t, D> du;
  const hn::Repartition<uint8_t, D> bytes;
  return hn::BitCast(du, hn::LoadU(bytes, static_cast<const uint8_t*>(p)));
}
template <class D>
HWY_INLINE void LoadEvenOdd(D d, const Bfloat16* p, hn::Vec<D>& even, hn::Vec<D>& odd) {
  const auto both = LoadBoth(d, p);
  even = hn::BitCast(d, hn::ShiftLeft<16>(both));
  odd = hn::BitCast(d, hn::And(both, Constant(d, 0xFFFF0000u)));
}
template <class D>
HWY_INLINE void LoadEvenOdd(D d, const Float16* p, hn::Vec<D>& even, hn::Vec<D>& odd) {
  const auto both = LoadBoth(d, p);
  even = WidenHalf(d, hn::And(both, Constant(d, 0xFFFF)));
  odd = WidenHalf(d, hn::ShiftRight<16>(both));
}

// Of a magnitude (f32 bits), its exponent, but at least kLeast (a biased exponent), and 2^(e+23-m)
// with `offset` added to its bits: a sum with it has an ulp of 2^(e-m), so the addition rounds to m
// mantissa bits, to nearest even, and the low bits of the sum count steps of 2^(e-m).
template <int kMantissa, uint32_t kLeast, class D>
HWY_INLINE hn::Vec<D> Binade(D d, Unsigned<D> magnitude, uint32_t offset, Unsigned<D>& exponent) {
  exponent = hn::Max(hn::And(magnitude, Constant(d, 0x7F800000)), Constant(d, kLeast << 23));
  return hn::BitCast(d, hn::Add(exponent, Constant(d, (uint32_t{23 - kMantissa} << 23) + offset)));
}

// The code of a small float without its sign, in the low 8 bits; those above are to be dropped.
// Above kLargest (f32 bits) it saturates.
template <int kMantissa, uint32_t kLeast, uint32_t kLargest, class D>
HWY_INLINE Unsigned<D> EncodeMagnitude(D d, Unsigned<D> bits) {
  constexpr uint32_t kBelow = (kLeast << kMantissa) & 0xFF;
  const auto magnitude = hn::Min(bits, Constant(d, kLargest));
  Unsigned<D> exponent;
  const auto added = Binade<kMantissa, kLeast>(d, magnitude, (256 - kBelow) & 0xFF, exponent);
  const auto sum = hn::Add(hn::BitCast(d, magnitude), added);
  return hn::Add(Bits(d, sum), hn::ShiftRight<23 - kMantissa>(exponent));
}
template <class D>
HWY_INLINE Unsigned<D> MagnitudeToE4M3(D d, Unsigned<D> bits) {
  return EncodeMagnitude<3, 121, 0x43E00000>(d, bits);
}
template <class D>
HWY_INLINE Unsigned<D> MagnitudeToE2M1(D d, Unsigned<D> bits) {
  return EncodeMagnitude<1, 127, 0x40C00000>(d, bits);
}

// The nearest number of the type T; beyond the largest one of F16 some number beyond it.
template <typename T>
struct Stored;
template <>
struct Stored<float> {
  template <class D>
  static HWY_INLINE hn::Vec<D> Round(D, hn::Vec<D> value) {
    return value;
  }
};
template <>
struct Stored<Bfloat16> {
  template <class D>
  static HWY_INLINE hn::Vec<D> Round(D d, hn::Vec<D> value) {
    const auto bits = Bits(d, value);
    const auto lsb = hn::And(hn::ShiftRight<16>(bits), Constant(d, 1));
    const auto rounded = hn::Add(hn::Add(bits, Constant(d, 0x7FFF)), lsb);
    return hn::BitCast(d, hn::And(rounded, Constant(d, 0xFFFF0000u)));
  }
};
template <>
struct Stored<Float16> {
  template <class D>
  static HWY_INLINE hn::Vec<D> Round(D d, hn::Vec<D> value) {
    const auto bits = Bits(d, value);
    const auto magnitude = hn::And(bits, Constant(d, 0x7FFFFFFF));
    Unsigned<D> exponent;
    const auto added = Binade<10, 113>(d, hn::Min(magnitude, Constant(d, 0x47800000)), 0, exponent);
    const auto rounded = hn::Sub(hn::Add(hn::BitCast(d, magnitude), added), added);
    return hn::Or(rounded, hn::BitCast(d, hn::And(bits, Constant(d, 0x80000000u))));
  }
};

// Codes of one byte are made 16 columns at a time at most, those of half a byte two times 8: the
// smallest group is one step.
using Wide = hn::CappedTag<float, 16>;
using Pair = hn::CappedTag<float, 8>;

// Calls work(group, first column, columns) for the groups of a row.
template <class Work>
HWY_INLINE void ForGroups(int64_t columns, int64_t group, const Work& work) {
  for (int64_t first = 0, g = 0; first < columns; first += group, ++g) {
    work(static_cast<size_t>(g), static_cast<size_t>(first),
         static_cast<size_t>(std::min(group, columns - first)));
  }
}

}  // namespace rows
}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#endif  // NARROW_KERNELS_STORED_ROWS_INL_H_
