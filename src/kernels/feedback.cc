#include "kernels/feedback.h"

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/feedback.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, kFeedbackLanes / 4>;
using VF = hn::Vec<DF>;

// Four vectors of sums stay in registers while the rows of `errors` go by.
void SumRows(const float* factors, size_t count, const float* errors, size_t stride, size_t lanes,
             float* sum) {
  const DF d;
  const size_t n = hn::Lanes(d);
  for (size_t lane = 0; lane < lanes; lane += 4 * n) {
    float* to = sum + lane;
    VF s0 = hn::Load(d, to), s1 = hn::Load(d, to + n);
    VF s2 = hn::Load(d, to + 2 * n), s3 = hn::Load(d, to + 3 * n);
    const float* from = errors + lane;
    for (size_t j = 0; j < count; ++j, from += stride) {
      const VF f = hn::Set(d, factors[j]);
      s0 = hn::MulAdd(f, hn::Load(d, from), s0);
      s1 = hn::MulAdd(f, hn::Load(d, from + n), s1);
      s2 = hn::MulAdd(f, hn::Load(d, from + 2 * n), s2);
      s3 = hn::MulAdd(f, hn::Load(d, from + 3 * n), s3);
    }
    hn::Store(s0, d, to), hn::Store(s1, d, to + n);
    hn::Store(s2, d, to + 2 * n), hn::Store(s3, d, to + 3 * n);
  }
}

void Correct(const float* weights, const float* correction, size_t lanes, float* target) {
  const DF d;
  for (size_t i = 0; i < lanes; i += hn::Lanes(d)) {
    const VF w = hn::Load(d, weights + i);
    const VF c = hn::Load(d, correction + i);
    hn::Store(hn::IfThenElse(hn::Eq(c, hn::Zero(d)), w, hn::Add(w, c)), d, target + i);
  }
}

void Measure(const float* weights, const float* correction, const float* codes, float scale,
             float pivot, size_t lanes, float* errors, float* compensated_squares, float* squares) {
  const DF d;
  const VF step = hn::Set(d, scale);
  const VF weight = hn::Set(d, pivot);
  for (size_t i = 0; i < lanes; i += hn::Lanes(d)) {
    const VF error = hn::NegMulAdd(hn::Load(d, codes + i), step, hn::Load(d, weights + i));
    const VF compensated = hn::Add(error, hn::Load(d, correction + i));
    hn::Store(error, d, errors + i);
    hn::Store(
        hn::MulAdd(hn::Mul(compensated, compensated), weight, hn::Load(d, compensated_squares + i)),
        d, compensated_squares + i);
    hn::Store(hn::MulAdd(error, error, hn::Load(d, squares + i)), d, squares + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(SumRows);
HWY_EXPORT(Correct);
HWY_EXPORT(Measure);

void AddFeedback(std::span<const float> factors, MatrixView<const float> errors,
                 std::span<float> sum) {
  NARROW_CHECK(std::ssize(factors) == errors.rows && std::ssize(sum) == errors.columns &&
               sum.size() % kFeedbackLanes == 0);
  HWY_DYNAMIC_DISPATCH(SumRows)
  (factors.data(), factors.size(), errors.data, static_cast<size_t>(errors.stride), sum.size(),
   sum.data());
}

void AddCorrection(std::span<const float> weights, std::span<const float> correction,
                   std::span<float> target) {
  NARROW_CHECK(weights.size() == target.size() && correction.size() == target.size() &&
               target.size() % kFeedbackLanes == 0);
  HWY_DYNAMIC_DISPATCH(Correct)
  (weights.data(), correction.data(), target.size(), target.data());
}

void MeasureRounding(std::span<const float> weights, std::span<const float> correction,
                     std::span<const float> codes, float scale, float pivot,
                     std::span<float> errors, std::span<float> compensated_squares,
                     std::span<float> squares) {
  const std::size_t lanes = weights.size();
  NARROW_CHECK(lanes % kFeedbackLanes == 0 && correction.size() == lanes && codes.size() == lanes &&
               errors.size() == lanes && compensated_squares.size() == lanes &&
               squares.size() == lanes);
  HWY_DYNAMIC_DISPATCH(Measure)
  (weights.data(), correction.data(), codes.data(), scale, pivot, lanes, errors.data(),
   compensated_squares.data(), squares.data());
}

}  // namespace narrow
#endif  // HWY_ONCE
