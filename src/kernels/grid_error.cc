#include "kernels/grid_error.h"

#include <array>
#include <cmath>
#include <vector>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/grid_error.cc"
#include <hwy/foreach_target.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {

constexpr size_t kPhasesTogether = 4;  // their sums fit the registers of every target
static_assert(kGridPhases % kPhasesTogether == 0);

// value rounded to four significant bits less value: exact. On the bits, since a compiler that
// contracts products and sums would take splitting by a multiplication apart.
HWY_INLINE VF32 RoundingError(VF32 value) {
  const DU32 du;
  const VU32 bits = hn::BitCast(du, value);
  const VU32 lsb = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1));
  const VU32 up = hn::Add(bits, hn::Add(lsb, hn::Set(du, 0x7FFFF)));
  const VF32 rounded = hn::BitCast(DF32(), hn::And(up, hn::Set(du, 0xFFF00000u)));
  return hn::Sub(rounded, value);
}

// One vector of columns of x and four phases, whose sums stay in registers while the rows go by.
// errors, squares: the sums of the first phase; those of the next are `stride` further.
template <typename T>
void AddVector(const T* x, size_t rows, size_t row_stride, const float* factors, float* errors,
               float* squares, size_t stride) {
  const DF32 df;
  const VF32 f0 = hn::Set(df, factors[0]), f1 = hn::Set(df, factors[1]);
  const VF32 f2 = hn::Set(df, factors[2]), f3 = hn::Set(df, factors[3]);
  const VF32 g0 = hn::Set(df, 1.0f / factors[0]), g1 = hn::Set(df, 1.0f / factors[1]);
  const VF32 g2 = hn::Set(df, 1.0f / factors[2]), g3 = hn::Set(df, 1.0f / factors[3]);
  VF32 e0 = LoadVector(errors), e1 = LoadVector(errors + stride);
  VF32 e2 = LoadVector(errors + 2 * stride), e3 = LoadVector(errors + 3 * stride);
  VF32 s0 = LoadVector(squares), s1 = LoadVector(squares + stride);
  VF32 s2 = LoadVector(squares + 2 * stride), s3 = LoadVector(squares + 3 * stride);
  for (size_t r = 0; r < rows; ++r) {
    const VF32 value = LoadVector(x + r * row_stride);
    const auto add = [&](VF32 factor, VF32 inverse, VF32& sum, VF32& square) {
      const VF32 error = hn::Mul(RoundingError(hn::Mul(value, factor)), inverse);
      sum = hn::Add(sum, error);
      square = hn::MulAdd(error, error, square);
    };
    add(f0, g0, e0, s0), add(f1, g1, e1, s1), add(f2, g2, e2, s2), add(f3, g3, e3, s3);
  }
  StoreVector(e0, errors), StoreVector(e1, errors + stride);
  StoreVector(e2, errors + 2 * stride), StoreVector(e3, errors + 3 * stride);
  StoreVector(s0, squares), StoreVector(s1, squares + stride);
  StoreVector(s2, squares + 2 * stride), StoreVector(s3, squares + 3 * stride);
}

// Whole vectors of columns.
template <typename T>
void AddColumns(MatrixView<const T> x, const float* factors, float* errors, float* squares,
                size_t stride) {
  const size_t lanes = hn::Lanes(DF32());
  const auto rows = static_cast<size_t>(x.rows), row_stride = static_cast<size_t>(x.stride);
  for (size_t c = 0; c < static_cast<size_t>(x.columns); c += lanes) {
    for (size_t p = 0; p < kGridPhases; p += kPhasesTogether) {
      AddVector(x.data + c, rows, row_stride, factors + p, errors + p * stride + c,
                squares + p * stride + c, stride);
    }
  }
}

template <typename T>
void AddMatrix(MatrixView<const T> x, const float* factors, const GridErrorSums& sums) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF32()));
  const int64_t whole = x.columns / lanes * lanes, rest = x.columns - whole;
  NARROW_CHECK(sums.errors.stride == sums.squares.stride);
  AddColumns(x.ColumnBlock(0, whole), factors, sums.errors.data, sums.squares.data,
             static_cast<size_t>(sums.errors.stride));
  if (rest == 0) return;
  // The last columns on zero-padded copies.
  std::vector<T> padded(static_cast<size_t>(x.rows * lanes));
  for (int64_t r = 0; r < x.rows; ++r) {
    std::copy_n(x.Row(r) + whole, rest, padded.data() + r * lanes);
  }
  float errors[kGridPhases * kMaxFloatLanes] = {}, squares[kGridPhases * kMaxFloatLanes] = {};
  for (int64_t p = 0; p < kGridPhases; ++p) {
    std::copy_n(sums.errors.Row(p) + whole, rest, errors + p * lanes);
    std::copy_n(sums.squares.Row(p) + whole, rest, squares + p * lanes);
  }
  AddColumns<T>({padded.data(), x.rows, lanes}, factors, errors, squares,
                static_cast<size_t>(lanes));
  for (int64_t p = 0; p < kGridPhases; ++p) {
    std::copy_n(errors + p * lanes, rest, sums.errors.Row(p) + whole);
    std::copy_n(squares + p * lanes, rest, sums.squares.Row(p) + whole);
  }
}

void AddMatrixFloat(MatrixView<const float> x, const float* factors, const GridErrorSums& sums) {
  AddMatrix(x, factors, sums);
}
void AddMatrixBfloat16(MatrixView<const Bfloat16> x, const float* factors,
                       const GridErrorSums& sums) {
  AddMatrix(x, factors, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(AddMatrixFloat);
HWY_EXPORT(AddMatrixBfloat16);

float GridPhaseFactor(int64_t phase) {
  return static_cast<float>(std::exp2(static_cast<double>(phase) / kGridPhases - 0.5));
}

template <typename T>
void AddGridErrors(MatrixView<const T> rows, const GridErrorSums& sums) {
  NARROW_CHECK(sums.errors.rows == kGridPhases && sums.squares.rows == kGridPhases &&
               sums.errors.columns == rows.columns && sums.squares.columns == rows.columns);
  std::array<float, kGridPhases> factors;
  for (int64_t phase = 0; phase < kGridPhases; ++phase) {
    factors[static_cast<std::size_t>(phase)] = GridPhaseFactor(phase);
  }
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(AddMatrixFloat)(rows, factors.data(), sums);
  } else {
    HWY_DYNAMIC_DISPATCH(AddMatrixBfloat16)(rows, factors.data(), sums);
  }
}

template void AddGridErrors<float>(MatrixView<const float>, const GridErrorSums&);
template void AddGridErrors<Bfloat16>(MatrixView<const Bfloat16>, const GridErrorSums&);

}  // namespace narrow
#endif  // HWY_ONCE
