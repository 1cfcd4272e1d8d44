#include "kernels/group_codes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "kernels/group_checks.h"
#include "tensor/scalar_types.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/group_codes.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"
#include "kernels/stored_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using rows::ForGroups;

using Wide = rows::Wide;
using Pair = rows::Pair;
constexpr size_t kMaxStep = 16;

// The quotient to encode, by rule. The type decides what it is rounded to.
template <typename T>
struct QuotientOf {
  Quotient kind;
  float scale;

  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, hn::Vec<D> value) const {
    const auto factor = hn::Set(d, scale);
    if (kind == Quotient::kProduct) return hn::Mul(value, factor);
    const auto quotient = hn::Div(value, factor);
    return kind == Quotient::kStored ? rows::Stored<T>::Round(d, quotient) : quotient;
  }
};

// The sign bit of each code, at bit kPlace of its lane.
template <int kPlace, class D>
HWY_INLINE rows::Unsigned<D> SignOf(D d, hn::Vec<D> quotient, rows::Unsigned<D> code,
                                    ZeroSign zero) {
  const auto sign = hn::And(hn::ShiftRight<31 - kPlace>(rows::Bits(d, quotient)),
                            rows::Constant(d, 1u << kPlace));
  if (zero == ZeroSign::kKept) return sign;
  if (zero == ZeroSign::kRounded) {
    const auto negative = hn::RebindMask(hn::Rebind<uint32_t, D>(), hn::Lt(quotient, hn::Zero(d)));
    return hn::IfThenElseZero(negative, sign);
  }
  return hn::IfThenZeroElse(hn::Eq(code, rows::Constant(d, 0)), sign);
}

template <typename T>
struct Encoding {
  const T* row;
  int64_t columns;
  const GroupScales& scales;
  uint8_t* codes;

  void E4M3(const CodeRule& rule) const {
    const Wide d;
    ForGroups(columns, scales.group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
      const QuotientOf<T> quotient{rule.quotient, scales.scales[g]};
      ForEachStep(row + first, count, hn::Lanes(d), codes + first,
                  [&](const T* from, uint8_t* to) HWY_ATTR {
                    const auto q = quotient(d, rows::Load(d, from));
                    const auto magnitude = rows::Bits(d, hn::Abs(q));
                    const auto code =
                        hn::And(rows::MagnitudeToE4M3(d, magnitude), rows::Constant(d, 0xFF));
                    const auto sign = SignOf<7>(d, q, code, rule.zero);
                    const hn::Rebind<uint8_t, Wide> bytes;
                    hn::StoreU(hn::TruncateTo(bytes, hn::Or(code, sign)), bytes, to);
                  });
    });
  }

  void Int8(Quotient kind) const {
    const Wide d;
    ForGroups(columns, scales.group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
      const QuotientOf<T> quotient{kind, scales.scales[g]};
      ForEachStep(row + first, count, hn::Lanes(d), codes + first,
                  [&](const T* from, uint8_t* to) HWY_ATTR {
                    const auto q = quotient(d, rows::Load(d, from));
                    const auto clamped = hn::Clamp(q, hn::Set(d, -128.0f), hn::Set(d, 127.0f));
                    const auto rounded =
                        hn::BitCast(hn::Rebind<uint32_t, Wide>(), hn::NearestInt(clamped));
                    const hn::Rebind<uint8_t, Wide> bytes;
                    hn::StoreU(hn::TruncateTo(bytes, rounded), bytes, to);
                  });
    });
  }

  // Two columns a byte; encode(tag, group, quotients) gives the low 4 bits of each lane. Small
  // groups are one step of narrower vectors.
  template <class D, class Encode>
  HWY_INLINE void NibblesBy(D d, const Encode& encode) const {
    const size_t step = 2 * hn::Lanes(d);
    ForGroups(columns, scales.group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
      for (size_t i = first; i < first + count; i += step) {
        hn::Vec<D> even, odd;
        rows::LoadEvenOdd(d, row + i, even, odd);
        const auto both = hn::Or(encode(d, g, even), hn::ShiftLeft<4>(encode(d, g, odd)));
        const hn::Rebind<uint8_t, D> bytes;
        hn::StoreU(hn::TruncateTo(bytes, both), bytes, codes + i / 2);
      }
    });
  }
  template <class Encode>
  HWY_INLINE void Nibbles(const Encode& encode) const {
    if (scales.group % 32 == 0) {
      NibblesBy(Wide(), encode);
    } else {
      NibblesBy(Pair(), encode);
    }
  }

  void E2M1(const CodeRule& rule) const {
    Nibbles([&](auto d, size_t g, auto value) HWY_ATTR {
      const auto q = QuotientOf<T>{rule.quotient, scales.scales[g]}(d, value);
      const auto magnitude = rows::Bits(d, hn::Abs(q));
      const auto code = hn::And(rows::MagnitudeToE2M1(d, magnitude), rows::Constant(d, 0x7));
      return hn::Or(code, SignOf<3>(d, q, code, rule.zero));
    });
  }

  void Int4(std::span<const float> zeros, Quotient kind) const {
    Nibbles([&](auto d, size_t g, auto value) HWY_ATTR {
      using D = decltype(d);
      auto q = QuotientOf<T>{kind, scales.scales[g]}(d, value);
      if (!zeros.empty()) {
        q = hn::Add(q, hn::Set(d, zeros[g]));
        if (kind == Quotient::kStored) q = rows::Stored<T>::Round(d, q);
      }
      const auto clamped = hn::Clamp(q, hn::Set(d, -8.0f), hn::Set(d, 7.0f));
      const auto offset = hn::Add(hn::NearestInt(clamped), hn::Set(hn::Rebind<int32_t, D>(), 8));
      return hn::BitCast(hn::Rebind<uint32_t, D>(), offset);
    });
  }
};

// The largest magnitude of `count` elements as f32 bits; of halves, their bits shifted up by 16.
template <class D, typename T>
HWY_INLINE int32_t Maximum(D d, const T* row, size_t count) {
  constexpr bool kHalves = sizeof(T) == 2;
  const hn::Repartition<uint8_t, D> bytes;
  const size_t step = hn::Lanes(d) * (kHalves ? 2 : 1);
  auto largest = hn::Zero(d);
  const auto take = [&](const void* from) HWY_ATTR {
    const auto both = hn::BitCast(d, hn::LoadU(bytes, static_cast<const uint8_t*>(from)));
    if constexpr (kHalves) {
      largest = hn::Max(largest, hn::And(hn::ShiftLeft<16>(both), hn::Set(d, 0x7FFF0000)));
      largest = hn::Max(largest, hn::And(both, hn::Set(d, 0x7FFF0000)));
    } else {
      largest = hn::Max(largest, hn::And(both, hn::Set(d, 0x7FFFFFFF)));
    }
  };
  size_t i = 0;
  for (; i + step <= count; i += step) take(row + i);
  if (i < count) {
    T tail[2 * kMaxStep] = {};
    std::copy(row + i, row + count, tail);
    take(tail);
  }
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

template <class D, typename T>
void Maxima(D d, const T* row, int64_t columns, int64_t group, float* maxima) {
  ForGroups(columns, group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
    const auto bits = static_cast<uint32_t>(Maximum(d, row + first, count));
    if constexpr (std::is_same_v<T, Float16>) {
      maxima[g] = ToFloat(Float16{static_cast<uint16_t>(bits >> 16)});
    } else {
      maxima[g] = std::bit_cast<float>(bits);
    }
  });
}

template <typename T>
void Ranges(const T* row, int64_t columns, int64_t group, float* lowest, float* highest) {
  const Wide d;
  const size_t step = hn::Lanes(d);
  ForGroups(columns, group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
    auto low = hn::Zero(d), high = hn::Zero(d);
    const auto take = [&](const T* from) HWY_ATTR {
      const auto value = rows::Load(d, from);
      low = hn::Min(low, value);
      high = hn::Max(high, value);
    };
    size_t i = first;
    for (; i + step <= first + count; i += step) take(row + i);
    if (i < first + count) {
      T tail[kMaxStep] = {};
      std::copy(row + i, row + first + count, tail);
      take(tail);
    }
    lowest[g] = hn::GetLane(hn::MinOfLanes(d, low));
    highest[g] = hn::GetLane(hn::MaxOfLanes(d, high));
  });
}

// Calls work(pointer to the elements) with their type.
template <class Work>
HWY_INLINE void AsType(const WeightRow& row, const Work& work) {
  switch (row.dtype) {
    case Dtype::kBF16:
      return work(reinterpret_cast<const Bfloat16*>(row.data));
    case Dtype::kF16:
      return work(reinterpret_cast<const Float16*>(row.data));
    default:
      return work(reinterpret_cast<const float*>(row.data));
  }
}

template <typename T>
Encoding<T> Of(const T* row, int64_t columns, const GroupScales& scales, std::byte* codes) {
  return {row, columns, scales, reinterpret_cast<uint8_t*>(codes)};
}

}  // namespace

void EncodeE4M3(const WeightRow& row, const GroupScales& scales, const CodeRule& rule,
                std::byte* codes) {
  AsType(row, [&](const auto* p) { Of(p, row.columns, scales, codes).E4M3(rule); });
}
void EncodeInt8(const WeightRow& row, const GroupScales& scales, Quotient quotient,
                std::byte* codes) {
  AsType(row, [&](const auto* p) { Of(p, row.columns, scales, codes).Int8(quotient); });
}
void EncodeE2M1(const WeightRow& row, const GroupScales& scales, const CodeRule& rule,
                std::byte* codes) {
  AsType(row, [&](const auto* p) { Of(p, row.columns, scales, codes).E2M1(rule); });
}
void EncodeInt4(const WeightRow& row, const GroupScales& scales, std::span<const float> zeros,
                Quotient quotient, std::byte* codes) {
  AsType(row, [&](const auto* p) { Of(p, row.columns, scales, codes).Int4(zeros, quotient); });
}

void GroupMaxima(const WeightRow& row, int64_t group, float* maxima) {
  AsType(row, [&](const auto* p) {
    if (group == 16) {
      Maxima(hn::CappedTag<int32_t, 8>(), p, row.columns, group, maxima);
    } else {
      Maxima(hn::CappedTag<int32_t, 16>(), p, row.columns, group, maxima);
    }
  });
}
void GroupRanges(const WeightRow& row, int64_t group, float* lowest, float* highest) {
  AsType(row, [&](const auto* p) { Ranges(p, row.columns, group, lowest, highest); });
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(EncodeE4M3);
HWY_EXPORT(EncodeInt8);
HWY_EXPORT(EncodeE2M1);
HWY_EXPORT(EncodeInt4);
HWY_EXPORT(GroupMaxima);
HWY_EXPORT(GroupRanges);

namespace {

void CheckRow(const WeightRow& row) {
  NARROW_CHECK(row.dtype == Dtype::kBF16 || row.dtype == Dtype::kF16 || row.dtype == Dtype::kF32);
}

}  // namespace

void FindGroupMaxima(const WeightRow& row, int64_t group, std::span<float> maxima) {
  CheckRow(row);
  NARROW_CHECK(HoldsGroups(row.columns, group, maxima.size()));
  HWY_DYNAMIC_DISPATCH(GroupMaxima)(row, group, maxima.data());
}

void FindGroupRanges(const WeightRow& row, int64_t group, std::span<float> lowest,
                     std::span<float> highest) {
  CheckRow(row);
  NARROW_CHECK(HoldsGroups(row.columns, group, lowest.size()) && lowest.size() == highest.size());
  HWY_DYNAMIC_DISPATCH(GroupRanges)(row, group, lowest.data(), highest.data());
}

void EncodeE4M3(const WeightRow& row, const GroupScales& scales, const CodeRule& rule,
                std::span<std::byte> codes) {
  CheckRow(row);
  CheckByteCodes(row.columns, scales, codes.size());
  HWY_DYNAMIC_DISPATCH(EncodeE4M3)(row, scales, rule, codes.data());
}

void EncodeInt8(const WeightRow& row, const GroupScales& scales, Quotient quotient,
                std::span<std::byte> codes) {
  CheckRow(row);
  CheckByteCodes(row.columns, scales, codes.size());
  HWY_DYNAMIC_DISPATCH(EncodeInt8)(row, scales, quotient, codes.data());
}

void EncodeE2M1(const WeightRow& row, const GroupScales& scales, const CodeRule& rule,
                std::span<std::byte> codes) {
  CheckRow(row);
  CheckNibbleCodes(row.columns, scales, codes.size());
  HWY_DYNAMIC_DISPATCH(EncodeE2M1)(row, scales, rule, codes.data());
}

void EncodeInt4(const WeightRow& row, const GroupScales& scales, std::span<const float> zeros,
                Quotient quotient, std::span<std::byte> codes) {
  CheckRow(row);
  CheckNibbleCodes(row.columns, scales, codes.size());
  NARROW_CHECK(zeros.empty() || zeros.size() == scales.scales.size());
  HWY_DYNAMIC_DISPATCH(EncodeInt4)(row, scales, zeros, quotient, codes.data());
}

}  // namespace narrow
#endif  // HWY_ONCE
