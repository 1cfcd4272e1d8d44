#include "kernels/transpose.h"

#include <algorithm>
#include <cstdint>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/transpose.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kSquare = 32;  // rows and columns whose both sides stay in the cache

// N x N elements. Interleaving the first half of the vectors with the second moves the highest bit
// of an element's row below its column: after log2(N) times rows and columns are swapped.
template <typename Word, int64_t N>
void TransposeTile(const Word* from, int64_t from_stride, Word* to, int64_t to_stride) {
  const hn::FixedTag<Word, N> d;
  hn::Vec<decltype(d)> v[N], next[N];
  for (int64_t i = 0; i < N; ++i) v[i] = hn::LoadU(d, from + i * from_stride);
  for (int64_t round = 1; round < N; round *= 2) {
    for (int64_t i = 0; i < N / 2; ++i) {
      next[2 * i] = hn::InterleaveLower(d, v[i], v[i + N / 2]);
      next[2 * i + 1] = hn::InterleaveUpper(d, v[i], v[i + N / 2]);
    }
    std::copy_n(next, N, v);
  }
  for (int64_t i = 0; i < N; ++i) hn::StoreU(v[i], d, to + i * to_stride);
}

// Word: what an element is moved as; 16 bytes of them at a time.
template <typename Word>
void TransposeMatrix(const Word* from, int64_t from_stride, int64_t rows, int64_t columns, Word* to,
                     int64_t to_stride) {
  constexpr int64_t kTile = 16 / sizeof(Word);
  for (int64_t square = 0; square < columns; square += kSquare) {
    const int64_t last_column = std::min(columns, square + kSquare);
    for (int64_t top = 0; top < rows; top += kSquare) {
      const int64_t last_row = std::min(rows, top + kSquare);
      for (int64_t c = square; c < last_column; c += kTile) {
        for (int64_t r = top; r < last_row; r += kTile) {
          const Word* source = from + r * from_stride + c;
          Word* target = to + c * to_stride + r;
          if (c + kTile <= last_column && r + kTile <= last_row) {
            TransposeTile<Word, kTile>(source, from_stride, target, to_stride);
            continue;
          }
          for (int64_t i = 0; i < std::min(kTile, last_column - c); ++i) {
            for (int64_t j = 0; j < std::min(kTile, last_row - r); ++j) {
              target[i * to_stride + j] = source[j * from_stride + i];
            }
          }
        }
      }
    }
  }
}

void TransposeFloat(MatrixView<const float> from, MatrixView<float> to) {
  TransposeMatrix(from.data, from.stride, from.rows, from.columns, to.data, to.stride);
}

void TransposeBfloat16(MatrixView<const Bfloat16> from, MatrixView<Bfloat16> to) {
  static_assert(sizeof(Bfloat16) == sizeof(uint16_t));
  TransposeMatrix(&from.data->bits, from.stride, from.rows, from.columns, &to.data->bits,
                  to.stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(TransposeFloat);
HWY_EXPORT(TransposeBfloat16);

template <typename T>
void Transpose(MatrixView<const T> from, MatrixView<T> to) {
  NARROW_CHECK(to.rows == from.columns && to.columns == from.rows);
  if constexpr (std::is_same_v<T, float>) {
    HWY_DYNAMIC_DISPATCH(TransposeFloat)(from, to);
  } else {
    HWY_DYNAMIC_DISPATCH(TransposeBfloat16)(from, to);
  }
}

template void Transpose<float>(MatrixView<const float>, MatrixView<float>);
template void Transpose<Bfloat16>(MatrixView<const Bfloat16>, MatrixView<Bfloat16>);

}  // namespace narrow
#endif  // HWY_ONCE
