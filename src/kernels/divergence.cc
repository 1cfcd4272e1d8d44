#include "kernels/divergence.h"

#include <cmath>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/divergence.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {

// Terms summed in f32 before they join the f64 sum.
constexpr size_t kSumBlock = 1024;

// The first `count` lanes from x, the others `fill`.
HWY_INLINE VF32 LoadFirst(const float* x, size_t count, float fill) {
  float lanes[kMaxFloatLanes];
  std::fill(std::copy_n(x, count, lanes), lanes + kMaxFloatLanes, fill);
  return LoadVector(lanes);
}

// Enters the logits above the last of `top`; behind its equals, as they have lower tokens.
inline void Insert(const float* x, size_t count, int64_t first_token, TopTokens* top) {
  for (size_t i = 0; i < count; ++i) {
    if (!(x[i] > top->logits.back())) continue;
    size_t place = top->logits.size() - 1;
    for (; place > 0 && x[i] > top->logits[place - 1]; --place) {
      top->logits[place] = top->logits[place - 1];
      top->tokens[place] = top->tokens[place - 1];
    }
    top->logits[place] = x[i];
    top->tokens[place] = static_cast<int32_t>(first_token + static_cast<int64_t>(i));
  }
}

// Also a cheap way to the maximum, which is the first of `top`: after the first slice few vectors
// have an element above its last.
HWY_INLINE void UpdateTop(const float* x, size_t count, int64_t first_token, TopTokens* top) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const size_t step = 4 * lanes;
  size_t i = 0;
  for (; i + step <= count; i += step) {
    const VF32 m0 = hn::Max(LoadVector(x + i), LoadVector(x + i + lanes));
    const VF32 m1 = hn::Max(LoadVector(x + i + 2 * lanes), LoadVector(x + i + 3 * lanes));
    const auto above = hn::Gt(hn::Max(m0, m1), hn::Set(df, top->logits.back()));
    if (!hn::AllFalse(df, above)) {
      Insert(x + i, step, first_token + static_cast<int64_t>(i), top);
    }
  }
  Insert(x + i, count - i, first_token + static_cast<int64_t>(i), top);
}

// sum(exp(x[i] - maximum)). Every exponential passes through store(i, lanes, e), which must not
// change the sum: equal logits have equal sums whoever stores.
template <class Store>
HWY_INLINE double SumExponentials(const float* x, size_t count, float maximum, const Store& store) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const VF32 top = hn::Set(df, maximum);
  double total = 0.0;
  for (size_t first = 0; first < count; first += kSumBlock) {
    const size_t last = std::min(count, first + kSumBlock);
    VF32 s0 = hn::Zero(df);
    VF32 s1 = s0;
    size_t i = first;
    for (; i + 2 * lanes <= last; i += 2 * lanes) {
      const VF32 e0 = ExpOfNegative(hn::Sub(LoadVector(x + i), top));
      const VF32 e1 = ExpOfNegative(hn::Sub(LoadVector(x + i + lanes), top));
      store(i, lanes, e0);
      store(i + lanes, lanes, e1);
      s0 = hn::Add(s0, e0);
      s1 = hn::Add(s1, e1);
    }
    for (; i < last; i += lanes) {
      const size_t valid = std::min(lanes, last - i);
      const VF32 e = ExpOfNegative(hn::Sub(LoadFirst(x + i, valid, maximum), top));
      store(i, valid, e);
      s0 = hn::Add(s0, hn::IfThenElseZero(hn::FirstN(df, valid), e));
    }
    total += static_cast<double>(SumOfLanes(hn::Add(s0, s1)));
  }
  return total;
}

void LogitsF32(const float* x, size_t count, int64_t first_token, TokenLogits* state,
               float* exponentials) {
  UpdateTop(x, count, first_token, &state->top);
  LogSumExp& normalizer = state->normalizer;
  const float maximum = std::max(normalizer.maximum, state->top.logits.front());
  const double change = static_cast<double>(normalizer.maximum) - static_cast<double>(maximum);
  normalizer.maximum = maximum;
  normalizer.sum *= std::exp(change);
  if (exponentials == nullptr) {
    normalizer.sum += SumExponentials(x, count, maximum, [](size_t, size_t, VF32) HWY_ATTR {});
    return;
  }
  const auto store = [exponentials](size_t i, size_t valid, VF32 e) HWY_ATTR {
    if (valid == hn::Lanes(DF32())) {
      StoreVector(e, exponentials + i);
      return;
    }
    float values[kMaxFloatLanes];
    StoreVector(e, values);
    std::copy_n(values, valid, exponentials + i);
  };
  normalizer.sum += SumExponentials(x, count, maximum, store);
}

// sum(e[i] * (original[i] - variant[i])).
double WeightedDifferenceF32(const float* e, const float* original, const float* variant,
                             size_t count) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  double total = 0.0;
  for (size_t first = 0; first < count; first += kSumBlock) {
    const size_t last = std::min(count, first + kSumBlock);
    VF32 s0 = hn::Zero(df);
    VF32 s1 = s0;
    size_t i = first;
    for (; i + 2 * lanes <= last; i += 2 * lanes) {
      const size_t j = i + lanes;
      s0 = hn::MulAdd(LoadVector(e + i), hn::Sub(LoadVector(original + i), LoadVector(variant + i)),
                      s0);
      s1 = hn::MulAdd(LoadVector(e + j), hn::Sub(LoadVector(original + j), LoadVector(variant + j)),
                      s1);
    }
    for (; i < last; i += lanes) {
      const size_t valid = std::min(lanes, last - i);
      const VF32 difference =
          hn::Sub(LoadFirst(original + i, valid, 0.0f), LoadFirst(variant + i, valid, 0.0f));
      s0 = hn::MulAdd(LoadFirst(e + i, valid, 0.0f), difference, s0);
    }
    total += static_cast<double>(SumOfLanes(hn::Add(s0, s1)));
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(LogitsF32);
HWY_EXPORT(WeightedDifferenceF32);

void AccumulateLogits(std::span<const float> logits, int64_t first_token, TokenLogits& state,
                      std::span<float> exponentials) {
  NARROW_CHECK(exponentials.empty() || exponentials.size() == logits.size());
  HWY_DYNAMIC_DISPATCH(LogitsF32)
  (logits.data(), logits.size(), first_token, &state,
   exponentials.empty() ? nullptr : exponentials.data());
}

void AccumulateCrossTerm(std::span<const float> original, std::span<const float> exponentials,
                         float maximum, std::span<const float> variant, CrossTerm& state) {
  NARROW_CHECK(exponentials.size() == original.size() && variant.size() == original.size());
  const double change = static_cast<double>(state.maximum) - static_cast<double>(maximum);
  state.maximum = maximum;
  state.sum = state.sum * std::exp(change) +
              HWY_DYNAMIC_DISPATCH(WeightedDifferenceF32)(exponentials.data(), original.data(),
                                                          variant.data(), original.size());
}

double Value(const LogSumExp& state) {
  return static_cast<double>(state.maximum) + std::log(state.sum);
}

double KlDivergence(const TokenLogits& original, const TokenLogits& variant,
                    const CrossTerm& cross_term) {
  const double kl = cross_term.sum / original.normalizer.sum - Value(original.normalizer) +
                    Value(variant.normalizer);
  // No divergence is negative (Gibbs' inequality): such a value is the rounding of a very small
  // one. Written so that NaN stays.
  return kl < 0.0 ? 0.0 : kl;
}

}  // namespace narrow
#endif  // HWY_ONCE
