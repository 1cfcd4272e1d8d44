// SoftmaxStep and the running log-sum-exp of elementwise.h.
#include <cmath>
#include <type_traits>

#include "base/error.h"
#include "kernels/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {

// The incomplete last vector of a row, filled up with `fill`.
HWY_INLINE VF32 LoadTail(const float* x, size_t count, float fill) {
  float tail[kMaxFloatLanes];
  std::fill(std::copy_n(x, count, tail), tail + kMaxFloatLanes, fill);
  return LoadVector(tail);
}

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The largest element, or -infinity of none.
HWY_INLINE float Maximum(const float* x, size_t count) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  VF32 m0 = hn::Set(df, kLowest);
  VF32 m1 = m0;
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    m0 = hn::Max(m0, LoadVector(x + i));
    m1 = hn::Max(m1, LoadVector(x + i + lanes));
  }
  for (; i + lanes <= count; i += lanes) m0 = hn::Max(m0, LoadVector(x + i));
  if (i < count) m1 = hn::Max(m1, LoadTail(x + i, count - i, kLowest));
  return MaxOfLanes(hn::Max(m0, m1));
}

// A tie is one value in 65,536 and may go either way.
HWY_INLINE void StoreRounded(VF32 first, VF32 second, float* p) { StoreTwo(first, second, p); }
HWY_INLINE void StoreRounded(VF32 first, VF32 second, Bfloat16* p) {
  StoreUpperHalves(RoundBitsTiesAway(first), RoundBitsTiesAway(second), p);
}

// How an exponential between 0 and 1 becomes a probability of type T.
struct RoundToOperand {
  template <typename T>
  HWY_INLINE void operator()(VF32 first, VF32 second, T* p) const {
    StoreRounded(first, second, p);
  }
};

// To the grid of E4M3 over 2^8: three mantissa bits, to nearest even, and steps of 2^-17 below the
// smallest normal number, 2^-14. As in kernels/float8.cc, the addition rounds. Exact in bfloat16.
struct RoundToFloat8 {
  static HWY_INLINE VF32 Round(VF32 x) {
    const DU32 du;
    const VU32 exponent = hn::And(hn::BitCast(du, x), hn::Set(du, 0x7F800000));
    const VU32 least = hn::Max(exponent, hn::Set(du, uint32_t{127 - 14} << 23));
    const VF32 added = hn::BitCast(DF32(), hn::Add(least, hn::Set(du, 20u << 23)));
    return hn::Sub(hn::Add(x, added), added);
  }
  HWY_INLINE void operator()(VF32 first, VF32 second, float* p) const {
    StoreTwo(Round(first), Round(second), p);
  }
  HWY_INLINE void operator()(VF32 first, VF32 second, Bfloat16* p) const {
    const DU32 du;
    StoreUpperHalves(hn::BitCast(du, Round(first)), hn::BitCast(du, Round(second)), p);
  }
};

// Stores p[i] = exp(scale * scores[i] - maximum), rounded, for i < count and returns the sum in f32
// of what was rounded.
template <class Rounding, typename T>
HWY_INLINE float StoreProbabilities(const float* scores, size_t count, float scale, float maximum,
                                    T* p) {
  constexpr Rounding kStore;
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const VF32 factor = hn::Set(df, scale);
  const VF32 top = hn::Set(df, maximum);
  const auto exponential = [&](VF32 s)
                               HWY_ATTR { return ExpOfNegative(hn::MulSub(s, factor, top)); };
  VF32 s0 = hn::Zero(df);
  VF32 s1 = s0;
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const VF32 e0 = exponential(LoadVector(scores + i));
    const VF32 e1 = exponential(LoadVector(scores + i + lanes));
    kStore(e0, e1, p + i);
    s0 = hn::Add(s0, e0);
    s1 = hn::Add(s1, e1);
  }
  // Less than two vectors are left; what is loaded in excess is neither added nor stored.
  if (i < count) {
    const size_t rest = count - i;
    const size_t first = std::min(rest, lanes);
    const VF32 e0 = exponential(LoadTail(scores + i, first, maximum));
    const VF32 e1 = exponential(LoadTail(scores + i + first, rest - first, maximum));
    T tail[2 * kMaxFloatLanes];
    kStore(e0, e1, tail);
    std::copy_n(tail, rest, p + i);
    s0 = hn::Add(s0, hn::IfThenElseZero(hn::FirstN(df, first), e0));
    s1 = hn::Add(s1, hn::IfThenElseZero(hn::FirstN(df, rest - first), e1));
  }
  return SumOfLanes(hn::Add(s0, s1));
}

HWY_INLINE void MultiplyRow(float* x, size_t count, float factor) {
  const DF32 df;
  const VF32 f = hn::Set(df, factor);
  ForEachStep(x, count, hn::Lanes(df), x, [f](const float* from, float* to) HWY_ATTR {
    StoreVector(hn::Mul(LoadVector(from), f), to);
  });
}

template <class Rounding, typename T>
HWY_INLINE void Softmax(MatrixView<const float> scores, float scale, const int64_t* valid,
                        MatrixView<T> probabilities, float* row_maximum, float* row_sum,
                        MatrixView<float> accumulator) {
  for (int64_t r = 0; r < scores.rows; ++r) {
    const auto count = static_cast<size_t>(valid[r]);
    T* p = probabilities.Row(r);
    std::fill(p + count, p + scores.columns, T{});
    if (count == 0) continue;
    const float old_maximum = row_maximum[r];
    const float maximum = std::max(old_maximum, scale * Maximum(scores.Row(r), count));
    const float sum = StoreProbabilities<Rounding>(scores.Row(r), count, scale, maximum, p);
    if (maximum == old_maximum) {  // the usual case after the first blocks
      row_sum[r] += sum;
      continue;
    }
    const float correction = std::exp(old_maximum - maximum);
    row_maximum[r] = maximum;
    row_sum[r] = row_sum[r] * correction + sum;
    MultiplyRow(accumulator.Row(r), static_cast<size_t>(accumulator.columns), correction);
  }
}
template <typename T>
HWY_INLINE void SoftmaxWith(ProbabilityRounding rounding, MatrixView<const float> scores,
                            float scale, const int64_t* valid, MatrixView<T> probabilities,
                            float* row_maximum, float* row_sum, MatrixView<float> accumulator) {
  if (rounding == ProbabilityRounding::kFloat8) {
    Softmax<RoundToFloat8>(scores, scale, valid, probabilities, row_maximum, row_sum, accumulator);
  } else {
    Softmax<RoundToOperand>(scores, scale, valid, probabilities, row_maximum, row_sum, accumulator);
  }
}
void SoftmaxF32(ProbabilityRounding rounding, MatrixView<const float> scores, float scale,
                const int64_t* valid, MatrixView<float> probabilities, float* row_maximum,
                float* row_sum, MatrixView<float> accumulator) {
  SoftmaxWith(rounding, scores, scale, valid, probabilities, row_maximum, row_sum, accumulator);
}
void SoftmaxBf16(ProbabilityRounding rounding, MatrixView<const float> scores, float scale,
                 const int64_t* valid, MatrixView<Bfloat16> probabilities, float* row_maximum,
                 float* row_sum, MatrixView<float> accumulator) {
  SoftmaxWith(rounding, scores, scale, valid, probabilities, row_maximum, row_sum, accumulator);
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(SoftmaxF32);
HWY_EXPORT(SoftmaxBf16);

template <typename T>
void SoftmaxStep(MatrixView<const float> scores, float scale, std::span<const int64_t> valid,
                 MatrixView<T> probabilities, std::span<float> row_maximum,
                 std::span<float> row_sum, MatrixView<float> accumulator,
                 ProbabilityRounding rounding) {
  const auto rows = static_cast<std::size_t>(scores.rows);
  NARROW_CHECK(valid.size() == rows && row_maximum.size() == rows && row_sum.size() == rows);
  NARROW_CHECK(probabilities.rows == scores.rows && probabilities.columns == scores.columns);
  NARROW_CHECK(accumulator.rows == scores.rows && scale > 0.0f);
  for (const int64_t count : valid) NARROW_CHECK(count >= 0 && count <= scores.columns);
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(SoftmaxF32)
    (rounding, scores, scale, valid.data(), probabilities, row_maximum.data(), row_sum.data(),
     accumulator);
  } else {
    HWY_DYNAMIC_DISPATCH(SoftmaxBf16)
    (rounding, scores, scale, valid.data(), probabilities, row_maximum.data(), row_sum.data(),
     accumulator);
  }
}
template void SoftmaxStep<float>(MatrixView<const float>, float, std::span<const int64_t>,
                                 MatrixView<float>, std::span<float>, std::span<float>,
                                 MatrixView<float>, ProbabilityRounding);
template void SoftmaxStep<Bfloat16>(MatrixView<const float>, float, std::span<const int64_t>,
                                    MatrixView<Bfloat16>, std::span<float>, std::span<float>,
                                    MatrixView<float>, ProbabilityRounding);

}  // namespace narrow
#endif  // HWY_ONCE
