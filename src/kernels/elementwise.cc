#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {

template <typename From, typename To>
HWY_INLINE void Widen(const From* from, size_t count, To* to) {
  ForEachStep(from, count, hn::Lanes(DF32()), to,
              [](const From* x, To* y) HWY_ATTR { StoreVector(LoadVector(x), y); });
}
void Bf16ToF32(const Bfloat16* from, size_t count, float* to) { Widen(from, count, to); }
void F16ToF32(const Float16* from, size_t count, float* to) { Widen(from, count, to); }

template <typename From>
HWY_INLINE void Narrow(const From* from, size_t count, Bfloat16* to) {
  const size_t lanes = hn::Lanes(DF32());
  ForEachStep(from, count, 2 * lanes, to, [lanes](const From* x, Bfloat16* y) HWY_ATTR {
    StoreUpperHalves(RoundBitsKeepingNan(LoadVector(x)), RoundBitsKeepingNan(LoadVector(x + lanes)),
                     y);
  });
}
void F32ToBf16(const float* from, size_t count, Bfloat16* to) { Narrow(from, count, to); }
void F16ToBf16(const Float16* from, size_t count, Bfloat16* to) { Narrow(from, count, to); }

template <typename T>
HWY_INLINE void Scale(const float* from, size_t count, float scale, T* to) {
  const size_t lanes = hn::Lanes(DF32());
  ForEachStep(from, count, 2 * lanes, to, [scale, lanes](const float* x, T* y) HWY_ATTR {
    const VF32 factor = hn::Set(DF32(), scale);
    StoreTwo(hn::Mul(LoadVector(x), factor), hn::Mul(LoadVector(x + lanes), factor), y);
  });
}
void ScaleF32(const float* from, size_t count, float scale, float* to) {
  Scale(from, count, scale, to);
}
void ScaleBf16(const float* from, size_t count, float scale, Bfloat16* to) {
  Scale(from, count, scale, to);
}

// Four accumulators hide the latency of the multiply-add.
HWY_INLINE float SumOfSquares(const float* x, size_t count) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  VF32 s0 = hn::Zero(df), s1 = hn::Zero(df), s2 = hn::Zero(df), s3 = hn::Zero(df);
  const auto add = [](const float* p, VF32& sum) HWY_ATTR {
    const VF32 v = LoadVector(p);
    sum = hn::MulAdd(v, v, sum);
  };
  size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    add(x + i, s0);
    add(x + i + lanes, s1);
    add(x + i + 2 * lanes, s2);
    add(x + i + 3 * lanes, s3);
  }
  for (; i + lanes <= count; i += lanes) add(x + i, s0);
  if (i < count) {
    float tail[kMaxFloatLanes] = {};
    std::copy(x + i, x + count, tail);
    add(tail, s1);
  }
  return SumOfLanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

template <typename T>
HWY_INLINE void NormRow(const float* x, const float* weight, size_t count, float epsilon, T* y) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const float mean = SumOfSquares(x, count) / static_cast<float>(count);
  const VF32 factor = hn::Set(df, 1.0f / std::sqrt(mean + epsilon));
  const auto product = [&](size_t i) HWY_ATTR {
    return hn::Mul(hn::Mul(LoadVector(x + i), factor), LoadVector(weight + i));
  };
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    StoreTwo(product(i), product(i + lanes), y + i);
  }
  for (; i + lanes <= count; i += lanes) StoreVector(product(i), y + i);
  // The same products, one by one.
  for (; i < count; ++i) {
    const float value = x[i] * hn::GetLane(factor) * weight[i];
    if constexpr (std::is_same_v<T, float>) {
      y[i] = value;
    } else {
      y[i] = ToBfloat16(value);
    }
  }
}
template <typename T>
HWY_INLINE void Norm(MatrixView<const float> x, const float* weight, float epsilon,
                     MatrixView<T> y) {
  for (int64_t r = 0; r < x.rows; ++r) {
    NormRow(x.Row(r), weight, static_cast<size_t>(x.columns), epsilon, y.Row(r));
  }
}
void NormF32(MatrixView<const float> x, const float* weight, float epsilon, MatrixView<float> y) {
  Norm(x, weight, epsilon, y);
}
void NormBf16(MatrixView<const float> x, const float* weight, float epsilon,
              MatrixView<Bfloat16> y) {
  Norm(x, weight, epsilon, y);
}

// The rotation of one vector of pairs.
template <typename T>
HWY_INLINE void RotateStep(const T* low, const T* high, const float* cosine, const float* sine,
                           T* y_low, T* y_high) {
  const VF32 a = LoadVector(low);
  const VF32 b = LoadVector(high);
  const VF32 c = LoadVector(cosine);
  const VF32 s = LoadVector(sine);
  StoreVector(hn::NegMulAdd(b, s, hn::Mul(a, c)), y_low);
  StoreVector(hn::MulAdd(a, s, hn::Mul(b, c)), y_high);
}
template <typename T>
HWY_INLINE void Rotate(const T* x, size_t half, const float* cosine, const float* sine, T* y) {
  const size_t lanes = hn::Lanes(DF32());
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    RotateStep(x + i, x + half + i, cosine + i, sine + i, y + i, y + half + i);
  }
  if (i == half) return;
  const size_t rest = half - i;
  T low[kMaxFloatLanes] = {}, high[kMaxFloatLanes] = {};
  float c[kMaxFloatLanes] = {}, s[kMaxFloatLanes] = {};
  std::copy_n(x + i, rest, low);
  std::copy_n(x + half + i, rest, high);
  std::copy_n(cosine + i, rest, c);
  std::copy_n(sine + i, rest, s);
  RotateStep<T>(low, high, c, s, low, high);
  std::copy_n(low, rest, y + i);
  std::copy_n(high, rest, y + half + i);
}
void RotateF32(const float* x, size_t half, const float* cosine, const float* sine, float* y) {
  Rotate(x, half, cosine, sine, y);
}
void RotateBf16(const Bfloat16* x, size_t half, const float* cosine, const float* sine,
                Bfloat16* y) {
  Rotate(x, half, cosine, sine, y);
}

// 1 / (1 + e^-x) times `factor`. The exponent is limited to the range of Exp; beyond, the sigmoid
// is 1 or less than 1e-37.
HWY_INLINE VF32 TimesSigmoid(VF32 factor, VF32 x) {
  const DF32 df;
  const VF32 exponent =
      hn::Max(hn::Set(df, kExpMinimum), hn::Min(hn::Set(df, kExpMaximum), hn::Neg(x)));
  return FastDivide(factor, hn::Add(hn::Set(df, 1.0f), Exp(exponent)));
}

template <Activation activation>
HWY_INLINE VF32 Activated(VF32 x) {
  const DF32 df;
  if constexpr (activation == Activation::kSilu) return TimesSigmoid(x, x);
  if constexpr (activation == Activation::kSigmoid) return TimesSigmoid(hn::Set(df, 1.0f), x);
  if constexpr (activation == Activation::kSquaredRelu) {
    const VF32 positive = hn::Max(hn::Zero(df), x);
    return hn::Mul(positive, positive);
  }
  // 0.5 (1 + tanh(u)) is the sigmoid of 2 u, with u = sqrt(2 / pi) (x + 0.044715 x^3).
  constexpr float kTwiceRoot = 1.5957691216057308f;
  const VF32 cubic = hn::MulAdd(hn::Mul(hn::Set(df, 0.044715f), hn::Mul(x, x)), x, x);
  return TimesSigmoid(x, hn::Mul(hn::Set(df, kTwiceRoot), cubic));
}

template <Activation activation, bool gated, typename T>
HWY_INLINE void ActivateRow(const T* gate, const T* up, size_t count, T* out) {
  const size_t step = 2 * hn::Lanes(DF32());
  const auto work = [&](const T* g, const T* u, T* y) HWY_ATTR {
    VF32 g0, g1;
    LoadPair(g, g0, g1);
    g0 = Activated<activation>(g0);
    g1 = Activated<activation>(g1);
    if constexpr (gated) {
      VF32 u0, u1;
      LoadPair(u, u0, u1);
      g0 = hn::Mul(g0, u0);
      g1 = hn::Mul(g1, u1);
    }
    StorePair(g0, g1, y);
  };
  size_t i = 0;
  for (; i + step <= count; i += step) work(gate + i, gated ? up + i : nullptr, out + i);
  if (i == count) return;
  T gate_tail[2 * kMaxFloatLanes] = {}, up_tail[2 * kMaxFloatLanes] = {};
  std::copy(gate + i, gate + count, gate_tail);
  if constexpr (gated) std::copy(up + i, up + count, up_tail);
  work(gate_tail, up_tail, gate_tail);
  std::copy_n(gate_tail, count - i, out + i);
}
template <Activation activation, typename T>
HWY_INLINE void ActivateRows(MatrixView<const T> gate, MatrixView<const T> up, MatrixView<T> out) {
  const auto count = static_cast<size_t>(gate.columns);
  for (int64_t r = 0; r < gate.rows; ++r) {
    if (up.rows > 0) {
      ActivateRow<activation, true>(gate.Row(r), up.Row(r), count, out.Row(r));
    } else {
      ActivateRow<activation, false, T>(gate.Row(r), nullptr, count, out.Row(r));
    }
  }
}
template <typename T>
HWY_INLINE void ActivateAll(Activation activation, MatrixView<const T> gate, MatrixView<const T> up,
                            MatrixView<T> out) {
  switch (activation) {
    case Activation::kSilu:
      return ActivateRows<Activation::kSilu>(gate, up, out);
    case Activation::kGeluTanh:
      return ActivateRows<Activation::kGeluTanh>(gate, up, out);
    case Activation::kSquaredRelu:
      return ActivateRows<Activation::kSquaredRelu>(gate, up, out);
    case Activation::kSigmoid:
      return ActivateRows<Activation::kSigmoid>(gate, up, out);
  }
}
void ActivateF32(Activation activation, MatrixView<const float> gate, MatrixView<const float> up,
                 MatrixView<float> out) {
  ActivateAll(activation, gate, up, out);
}
void ActivateBf16(Activation activation, MatrixView<const Bfloat16> gate,
                  MatrixView<const Bfloat16> up, MatrixView<Bfloat16> out) {
  ActivateAll(activation, gate, up, out);
}

// cap tanh(y) = cap (1 - 2 / (1 + e^2y)) = cap (2 sigmoid(2 y) - 1).
void CapF32(float* x, size_t count, float scale, float cap) {
  const DF32 df;
  const VF32 inner = hn::Set(df, 2.0f * scale / cap);
  const auto capped = [&](VF32 v) HWY_ATTR {
    const VF32 twice = TimesSigmoid(hn::Set(df, 2.0f * cap), hn::Mul(v, inner));
    return hn::Sub(twice, hn::Set(df, cap));
  };
  ForEachStep(x, count, hn::Lanes(df), x, [&](const float* from, float* to) HWY_ATTR {
    StoreVector(capped(LoadVector(from)), to);
  });
}

template <typename T>
HWY_INLINE void CenterRow(const float* x, const float* weight, const float* bias, size_t count,
                          float epsilon, T* y) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const auto total = [&](const auto& term) HWY_ATTR {
    VF32 sum = hn::Zero(df);
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) sum = hn::Add(sum, term(LoadVector(x + i)));
    float rest = 0.0f;
    for (; i < count; ++i) rest += hn::GetLane(term(hn::Set(df, x[i])));
    return SumOfLanes(sum) + rest;
  };
  const VF32 mean = hn::Set(df, total([](VF32 v) { return v; }) / static_cast<float>(count));
  const float squares = total([&](VF32 v) HWY_ATTR {
    const VF32 d = hn::Sub(v, mean);
    return hn::Mul(d, d);
  });
  const VF32 factor = hn::Set(df, 1.0f / std::sqrt(squares / static_cast<float>(count) + epsilon));
  const auto normed = [&](VF32 v, VF32 w, VF32 b)
                          HWY_ATTR { return hn::MulAdd(hn::Mul(hn::Sub(v, mean), factor), w, b); };
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const VF32 b = bias != nullptr ? LoadVector(bias + i) : hn::Zero(df);
    StoreVector(normed(LoadVector(x + i), LoadVector(weight + i), b), y + i);
  }
  for (; i < count; ++i) {
    const float b = bias != nullptr ? bias[i] : 0.0f;
    const float value =
        hn::GetLane(normed(hn::Set(df, x[i]), hn::Set(df, weight[i]), hn::Set(df, b)));
    if constexpr (std::is_same_v<T, float>) {
      y[i] = value;
    } else {
      y[i] = ToBfloat16(value);
    }
  }
}
void CenterF32(MatrixView<const float> x, const float* weight, const float* bias, float epsilon,
               MatrixView<float> y) {
  for (int64_t r = 0; r < x.rows; ++r) {
    CenterRow(x.Row(r), weight, bias, static_cast<size_t>(x.columns), epsilon, y.Row(r));
  }
}
void CenterBf16(MatrixView<const float> x, const float* weight, const float* bias, float epsilon,
                MatrixView<Bfloat16> y) {
  for (int64_t r = 0; r < x.rows; ++r) {
    CenterRow(x.Row(r), weight, bias, static_cast<size_t>(x.columns), epsilon, y.Row(r));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(Bf16ToF32);
HWY_EXPORT(F16ToF32);
HWY_EXPORT(F32ToBf16);
HWY_EXPORT(F16ToBf16);
HWY_EXPORT(ScaleF32);
HWY_EXPORT(ScaleBf16);
HWY_EXPORT(NormF32);
HWY_EXPORT(NormBf16);
HWY_EXPORT(RotateF32);
HWY_EXPORT(RotateBf16);
HWY_EXPORT(ActivateF32);
HWY_EXPORT(ActivateBf16);
HWY_EXPORT(CapF32);
HWY_EXPORT(CenterF32);
HWY_EXPORT(CenterBf16);

void ConvertToFloat(std::span<const Bfloat16> from, std::span<float> to) {
  NARROW_CHECK(from.size() == to.size());
  HWY_DYNAMIC_DISPATCH(Bf16ToF32)(from.data(), from.size(), to.data());
}

void ConvertToFloat(std::span<const Float16> from, std::span<float> to) {
  NARROW_CHECK(from.size() == to.size());
  HWY_DYNAMIC_DISPATCH(F16ToF32)(from.data(), from.size(), to.data());
}

void ConvertToBfloat16(std::span<const float> from, std::span<Bfloat16> to) {
  NARROW_CHECK(from.size() == to.size());
  HWY_DYNAMIC_DISPATCH(F32ToBf16)(from.data(), from.size(), to.data());
}

void ConvertToBfloat16(std::span<const Float16> from, std::span<Bfloat16> to) {
  NARROW_CHECK(from.size() == to.size());
  HWY_DYNAMIC_DISPATCH(F16ToBf16)(from.data(), from.size(), to.data());
}

template <typename T>
void ScaleTo(std::span<const float> x, float scale, std::span<T> y) {
  NARROW_CHECK(x.size() == y.size());
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(ScaleF32)(x.data(), x.size(), scale, y.data());
  } else {
    HWY_DYNAMIC_DISPATCH(ScaleBf16)(x.data(), x.size(), scale, y.data());
  }
}

template <typename T>
void RmsNorm(MatrixView<const float> x, std::span<const float> weight, float epsilon,
             MatrixView<T> y) {
  NARROW_CHECK(x.rows == y.rows && x.columns == y.columns);
  NARROW_CHECK(static_cast<int64_t>(weight.size()) == x.columns);
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(NormF32)(x, weight.data(), epsilon, y);
  } else {
    HWY_DYNAMIC_DISPATCH(NormBf16)(x, weight.data(), epsilon, y);
  }
}

template <typename T>
void RotateHead(std::span<const T> x, std::span<const float> cosine, std::span<const float> sine,
                std::span<T> y) {
  const std::size_t half = x.size() / 2;
  NARROW_CHECK(x.size() == 2 * half && y.size() == x.size());
  NARROW_CHECK(cosine.size() == half && sine.size() == half);
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(RotateF32)
    (x.data(), half, cosine.data(), sine.data(), y.data());
  } else {
    HWY_DYNAMIC_DISPATCH(RotateBf16)
    (x.data(), half, cosine.data(), sine.data(), y.data());
  }
}

template <typename T>
void LayerNorm(MatrixView<const float> x, std::span<const float> weight,
               std::span<const float> bias, float epsilon, MatrixView<T> y) {
  NARROW_CHECK(x.rows == y.rows && x.columns == y.columns);
  NARROW_CHECK(static_cast<int64_t>(weight.size()) == x.columns);
  NARROW_CHECK(bias.empty() || bias.size() == weight.size());
  const float* const offsets = bias.empty() ? nullptr : bias.data();
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(CenterF32)(x, weight.data(), offsets, epsilon, y);
  } else {
    HWY_DYNAMIC_DISPATCH(CenterBf16)(x, weight.data(), offsets, epsilon, y);
  }
}

template <typename T>
void Activate(Activation activation, MatrixView<const T> gate, MatrixView<const T> up,
              MatrixView<T> out) {
  NARROW_CHECK(gate.rows == out.rows && gate.columns == out.columns);
  NARROW_CHECK(up.rows == 0 || (up.rows == gate.rows && up.columns == gate.columns));
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(ActivateF32)(activation, gate, up, out);
  } else {
    HWY_DYNAMIC_DISPATCH(ActivateBf16)(activation, gate, up, out);
  }
}

void SoftCap(std::span<float> x, float scale, float cap) {
  NARROW_CHECK(cap > 0.0f);
  HWY_DYNAMIC_DISPATCH(CapF32)(x.data(), x.size(), scale, cap);
}

#define NARROW_INSTANTIATE(T)                                                                      \
  template void ScaleTo<T>(std::span<const float>, float, std::span<T>);                           \
  template void RmsNorm<T>(MatrixView<const float>, std::span<const float>, float, MatrixView<T>); \
  template void RotateHead<T>(std::span<const T>, std::span<const float>, std::span<const float>,  \
                              std::span<T>);                                                       \
  template void LayerNorm<T>(MatrixView<const float>, std::span<const float>,                      \
                             std::span<const float>, float, MatrixView<T>);                        \
  template void Activate<T>(Activation, MatrixView<const T>, MatrixView<const T>, MatrixView<T>);
NARROW_INSTANTIATE(float);
NARROW_INSTANTIATE(Bfloat16);
#undef NARROW_INSTANTIATE

void ToFloats(std::span<const float> from, std::span<float> to) {
  std::ranges::copy(from, to.begin());
}
void ToFloats(std::span<const Bfloat16> from, std::span<float> to) { ConvertToFloat(from, to); }
void FromFloats(std::span<const float> from, std::span<float> to) { ToFloats(from, to); }
void FromFloats(std::span<const float> from, std::span<Bfloat16> to) {
  ConvertToBfloat16(from, to);
}

}  // namespace narrow
#endif  // HWY_ONCE
