// Products whose rows must not depend on their neighbours, where oneDNN's kernels would make them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/onednn_product.h"
#include "tensor/tensor.h"

namespace narrow {

template <typename T>
void CopyRows(MatrixView<const T> from, MatrixView<T> to) {
  for (int64_t row = 0; row < from.rows; ++row) std::ranges::copy(from.RowSpan(row), to.Row(row));
}

// Without AVX-512 oneDNN 2.6 multiplies f32 by one of three kernels, whose sums differ in the last
// bits: one for a single row, one wherever rows or columns of the output are few (at most 263 of
// either are always few), one for the rest. The second takes rows in sixes, and in another order of
// sums what is left over; with a multiple of 12 rows nothing is, even where it halves them. So
// every row is computed alike in blocks of at most kBlockRows, in multiples of kRowMultiple.
constexpr int64_t kRowMultiple = 12;
constexpr int64_t kBlockRows = 252;
static_assert(kBlockRows % kRowMultiple == 0);
// It reads W^T in place, at 60 % of its speed where rows lie multiples of 4096 bytes apart: strips
// of W keep them closer.
constexpr int64_t kStripRows = 256;

template <typename T>
bool NeedsEvenRows() {
  return std::is_same_v<T, float> && !CpuHas(dnnl::cpu_isa::avx512_core);
}

// Both are padded at a time, so each has a buffer of its own.
enum class PaddedOperand { kSource, kDestination };

// A copy of at most kRowMultiple rows, with rows of zeros up to that number, in a buffer of the
// thread.
template <PaddedOperand, typename T>
MatrixView<T> PadRows(MatrixView<const T> x) {
  thread_local AlignedBuffer<T> buffer;
  const int64_t size = kRowMultiple * x.columns;
  if (buffer.size() < size) buffer = AlignedBuffer<T>(size);
  const MatrixView<T> padded(buffer.data(), kRowMultiple, x.columns);
  CopyRows<T>(x, padded);
  std::fill(padded.Row(x.rows), padded.Row(kRowMultiple), T{});
  return padded;
}

// multiply(rows of x, the same rows of out) in blocks of even numbers of rows.
template <typename T, typename Out, typename Multiply>
void MultiplyEvenRows(MatrixView<const T> x, MatrixView<Out> out, const Multiply& multiply) {
  const int64_t whole = x.rows / kRowMultiple * kRowMultiple;
  for (int64_t first = 0; first < whole; first += kBlockRows) {
    const int64_t count = std::min(kBlockRows, whole - first);
    multiply(x.RowBlock(first, count), out.RowBlock(first, count));
  }
  if (whole == x.rows) return;
  const MatrixView<Out> last = out.RowBlock(whole, x.rows - whole);
  const MatrixView<Out> padded = PadRows<PaddedOperand::kDestination, Out>(last);
  multiply(PadRows<PaddedOperand::kSource, T>(x.RowBlock(whole, last.rows)), padded);
  CopyRows<Out>(padded.RowBlock(0, last.rows), last);
}

}  // namespace narrow
