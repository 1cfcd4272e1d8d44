#include "kernels/input_rounding.h"

#include "base/error.h"
#include "kernels/group_checks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/input_rounding.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/stored_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using rows::Wide;

// The nearest number of a small float with kMantissa bits whose smallest normal exponent is kLeast
// (biased), at most kLargest (f32 bits).
template <int kMantissa, uint32_t kLeast, uint32_t kLargest>
struct SmallFloat {
  HWY_INLINE hn::Vec<Wide> operator()(hn::Vec<Wide> value) const {
    const Wide d;
    const auto bits = rows::Bits(d, value);
    const auto sign = hn::And(bits, rows::Constant(d, 0x80000000u));
    const auto magnitude =
        hn::Min(hn::And(bits, rows::Constant(d, 0x7FFFFFFF)), rows::Constant(d, kLargest));
    rows::Unsigned<Wide> exponent;
    const auto added = rows::Binade<kMantissa, kLeast>(d, magnitude, 0, exponent);
    const auto rounded = hn::Sub(hn::Add(hn::BitCast(d, magnitude), added), added);
    return hn::Or(rounded, hn::BitCast(d, sign));
  }
};

struct Integers {
  float lowest, highest;
  HWY_INLINE hn::Vec<Wide> operator()(hn::Vec<Wide> value) const {
    const Wide d;
    // By way of integers, which have one zero.
    const auto clamped = hn::Clamp(value, hn::Set(d, lowest), hn::Set(d, highest));
    return hn::ConvertTo(d, hn::NearestInt(clamped));
  }
};

template <class Nearest>
void RoundGroups(float* row, int64_t columns, const GroupScales& scales, const Nearest& nearest) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  rows::ForGroups(columns, scales.group, [&](size_t g, size_t first, size_t count) HWY_ATTR {
    const auto scale = hn::Set(d, scales.scales[g]);
    const auto step = [&](const float* from, float* to) HWY_ATTR {
      hn::StoreU(hn::Mul(nearest(hn::Div(hn::LoadU(d, from), scale)), scale), d, to);
    };
    size_t i = first;
    for (; i + lanes <= first + count; i += lanes) step(row + i, row + i);
    if (i == first + count) return;
    float tail[16] = {};
    std::copy(row + i, row + first + count, tail);
    step(tail, tail);
    std::copy(tail, tail + (first + count - i), row + i);
  });
}

}  // namespace

void Round(float* row, int64_t columns, const GroupScales& scales, const GridRule& rule) {
  switch (rule.numbers) {
    case GridRule::Numbers::kE4M3:
      return RoundGroups(row, columns, scales, SmallFloat<3, 121, 0x43E00000>());
    case GridRule::Numbers::kE2M1:
      return RoundGroups(row, columns, scales, SmallFloat<1, 127, 0x40C00000>());
    case GridRule::Numbers::kIntegers:
      return RoundGroups(row, columns, scales, Integers{rule.lowest, rule.highest});
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(Round);

void RoundToGrid(std::span<float> row, const GroupScales& scales, const GridRule& rule) {
  const auto columns = static_cast<int64_t>(row.size());
  NARROW_CHECK(HoldsGroups(columns, scales.group, scales.scales.size()));
  HWY_DYNAMIC_DISPATCH(Round)(row.data(), columns, scales, rule);
}

}  // namespace narrow
#endif  // HWY_ONCE
