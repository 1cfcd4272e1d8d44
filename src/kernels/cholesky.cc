#include "kernels/cholesky.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cholesky.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Included once per target, so the constants shared by all of them need a guard of their own.
#ifndef NARROW_KERNELS_CHOLESKY_CONSTANTS_
#define NARROW_KERNELS_CHOLESKY_CONSTANTS_
namespace narrow {
constexpr int64_t kPanel = 128;  // columns factored at a time
constexpr int64_t kGroup = 16;   // rows of a panel that are packed together
constexpr int64_t kTile = 128;   // rows and columns of an update by one thread
constexpr int64_t kStrip = 4;    // rows of the register block
}  // namespace narrow
#endif

HWY_BEFORE_NAMESPACE();
namespace narrow {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF64 = hn::CappedTag<double, kGroup / 2>;
using VF64 = hn::Vec<DF64>;

// y -= factor * x for `count` elements, in any order.
HWY_INLINE void SubtractScaled(double factor, const double* x, int64_t count, double* y) {
  const DF64 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const VF64 f = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(hn::NegMulAdd(f, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  }
  for (; i < count; ++i) y[i] -= factor * x[i];
}

// Factors the upper triangle of t [n, n], rows kPanel apart, into U with t = U^T U.
bool FactorDiagonalBlock(double* t, int64_t n, double smallest_pivot) {
  for (int64_t j = 0; j < n; ++j) {
    double* row = t + j * kPanel;
    if (!(row[j] >= smallest_pivot)) return false;
    const double root = std::sqrt(row[j]);
    row[j] = root;
    for (int64_t i = j + 1; i < n; ++i) row[i] /= root;
    for (int64_t i = j + 1; i < n; ++i) {
      SubtractScaled(row[i], row + i, n - i, t + i * kPanel + i);
    }
  }
  return true;
}

// x [n, kGroup] holds kGroup rows of the panel as columns: solves U^T x' = x in place.
void SolveGroup(const double* u, int64_t n, double* x) {
  const DF64 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < n; ++j) {
    const double* row = u + j * kPanel;
    double* xj = x + j * kGroup;
    for (int64_t lane = 0; lane < kGroup; lane += 2 * lanes) {
      const VF64 pivot = hn::Set(d, row[j]);
      const VF64 a = hn::Div(hn::Load(d, xj + lane), pivot);
      const VF64 b = hn::Div(hn::Load(d, xj + lane + lanes), pivot);
      hn::Store(a, d, xj + lane);
      hn::Store(b, d, xj + lane + lanes);
      for (int64_t i = j + 1; i < n; ++i) {
        const VF64 f = hn::Set(d, row[i]);
        double* xi = x + i * kGroup + lane;
        hn::Store(hn::NegMulAdd(f, a, hn::Load(d, xi)), d, xi);
        hn::Store(hn::NegMulAdd(f, b, hn::Load(d, xi + lanes)), d, xi + lanes);
      }
    }
  }
}

// c [kStrip, kGroup] -= rows a0..a3 (depth elements each) times x [depth, kGroup].
HWY_INLINE void UpdateBlock(const double* a0, const double* a1, const double* a2, const double* a3,
                            const double* x, int64_t depth, double* c, int64_t c_stride) {
  const DF64 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t lane = 0; lane < kGroup; lane += 2 * lanes) {
    double* c0 = c + lane;
    double* c1 = c0 + c_stride;
    double* c2 = c1 + c_stride;
    double* c3 = c2 + c_stride;
    VF64 s00 = hn::LoadU(d, c0), s01 = hn::LoadU(d, c0 + lanes);
    VF64 s10 = hn::LoadU(d, c1), s11 = hn::LoadU(d, c1 + lanes);
    VF64 s20 = hn::LoadU(d, c2), s21 = hn::LoadU(d, c2 + lanes);
    VF64 s30 = hn::LoadU(d, c3), s31 = hn::LoadU(d, c3 + lanes);
    for (int64_t k = 0; k < depth; ++k) {
      const VF64 x0 = hn::Load(d, x + k * kGroup + lane);
      const VF64 x1 = hn::Load(d, x + k * kGroup + lane + lanes);
      const VF64 f0 = hn::Set(d, a0[k]), f1 = hn::Set(d, a1[k]);
      const VF64 f2 = hn::Set(d, a2[k]), f3 = hn::Set(d, a3[k]);
      s00 = hn::NegMulAdd(f0, x0, s00), s01 = hn::NegMulAdd(f0, x1, s01);
      s10 = hn::NegMulAdd(f1, x0, s10), s11 = hn::NegMulAdd(f1, x1, s11);
      s20 = hn::NegMulAdd(f2, x0, s20), s21 = hn::NegMulAdd(f2, x1, s21);
      s30 = hn::NegMulAdd(f3, x0, s30), s31 = hn::NegMulAdd(f3, x1, s31);
    }
    hn::StoreU(s00, d, c0), hn::StoreU(s01, d, c0 + lanes);
    hn::StoreU(s10, d, c1), hn::StoreU(s11, d, c1 + lanes);
    hn::StoreU(s20, d, c2), hn::StoreU(s21, d, c2 + lanes);
    hn::StoreU(s30, d, c3), hn::StoreU(s31, d, c3 + lanes);
  }
}

// c [rows, columns] -= a [rows, depth] x, x packed as groups of kGroup columns. Incomplete blocks
// work on a copy.
void UpdateTile(const double* a, const double* x, int64_t depth, int64_t stride, int64_t rows,
                int64_t columns, double* c) {
  for (int64_t column = 0; column < columns; column += kGroup) {
    const double* group = x + column * depth;
    const int64_t width = std::min(kGroup, columns - column);
    for (int64_t row = 0; row < rows; row += kStrip) {
      const int64_t height = std::min(kStrip, rows - row);
      const auto source = [&](int64_t r) { return a + (row + std::min(r, height - 1)) * stride; };
      double* block = c + row * stride + column;
      if (width == kGroup && height == kStrip) {
        UpdateBlock(source(0), source(1), source(2), source(3), group, depth, block, stride);
        continue;
      }
      double copy[kStrip * kGroup] = {};
      for (int64_t r = 0; r < height; ++r)
        std::copy_n(block + r * stride, width, copy + r * kGroup);
      UpdateBlock(source(0), source(1), source(2), source(3), group, depth, copy, kGroup);
      for (int64_t r = 0; r < height; ++r)
        std::copy_n(copy + r * kGroup, width, block + r * stride);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace narrow
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace narrow {

HWY_EXPORT(FactorDiagonalBlock);
HWY_EXPORT(SolveGroup);
HWY_EXPORT(UpdateTile);

namespace {

// The block on the diagonal, through its transpose u (kept for the rows below it).
bool FactorPanelTop(MatrixView<double> a, int64_t first, int64_t width, double smallest_pivot,
                    double* u) {
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j <= i; ++j) u[j * kPanel + i] = a.Row(first + i)[first + j];
  }
  if (!HWY_DYNAMIC_DISPATCH(FactorDiagonalBlock)(u, width, smallest_pivot)) return false;
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j <= i; ++j) a.Row(first + i)[first + j] = u[j * kPanel + i];
  }
  return true;
}

// Solves for `rows` rows of the panel, which stay packed in `group` as well.
void SolveRows(MatrixView<double> rows, const double* u, double* group) {
  for (int64_t k = 0; k < rows.columns; ++k) {
    for (int64_t r = 0; r < kGroup; ++r) {
      group[k * kGroup + r] = r < rows.rows ? rows.Row(r)[k] : 0.0;
    }
  }
  HWY_DYNAMIC_DISPATCH(SolveGroup)(u, rows.columns, group);
  for (int64_t r = 0; r < rows.rows; ++r) {
    for (int64_t k = 0; k < rows.columns; ++k) rows.Row(r)[k] = group[k * kGroup + r];
  }
}

// A factorization, panel after panel. Rows of tiles are dealt to the ranks one after the other; a
// panel is one tile wide, so that the first tile below it is the top of the next panel.
class Factorization {
 public:
  Factorization(MatrixView<double> a, double smallest_pivot, Ranks* ranks)
      : a_(a),
        smallest_pivot_(smallest_pivot),
        ranks_(ranks),
        u_(kPanel * kPanel),
        packed_(RoundUp(a.rows, kGroup) * kPanel) {
    static_assert(kPanel == kTile);
  }

  bool Run() {
    if (!FactorTop(0)) return false;
    for (int64_t first = 0; first < a_.rows; first += kPanel) {
      width_ = std::min(kPanel, a_.rows - first);
      begin_ = first + width_;
      if (begin_ == a_.rows) break;
      SolveOwnRows(first);
      // The next panel's top is needed by all before anything else is.
      bool good = true;
      if (IsOwn(0)) {
        UpdateTile(first, 0, 0);
        good = FactorTop(begin_);
      }
      if (!Exchange(first, good)) return false;
      UpdateTrailing(first);
    }
    return true;
  }

 private:
  // Tiles below the panel are counted from it; the rank of each follows from its place in a.
  bool IsOwn(int64_t tile) const {
    return OwnerOf(tile) == (ranks_ == nullptr ? 0 : ranks_->rank());
  }
  int OwnerOf(int64_t tile) const {
    return ranks_ == nullptr ? 0 : static_cast<int>((begin_ / kTile + tile) % ranks_->count());
  }
  int64_t Tiles() const { return DivideRoundUp(a_.rows - begin_, kTile); }
  int64_t RowsOf(int64_t tile) const { return std::min(kTile, a_.rows - begin_ - tile * kTile); }

  bool FactorTop(int64_t first) {
    return FactorPanelTop(a_, first, std::min(kPanel, a_.rows - first), smallest_pivot_, u_.data());
  }

  void SolveOwnRows(int64_t first) {
    constexpr int64_t kGroups = kTile / kGroup;  // of a tile
    ParallelFor(DivideRoundUp(a_.rows - begin_, kGroup), [&](int64_t group) {
      if (!IsOwn(group / kGroups)) return;
      const int64_t row = begin_ + group * kGroup;
      SolveRows(a_.RowBlock(row, std::min(kGroup, a_.rows - row)).ColumnBlock(first, width_),
                u_.data(), packed_.data() + group * kGroup * width_);
    });
  }

  // What is right of and below the panel, less its product with its own transpose: a tile.
  void UpdateTile(int64_t first, int64_t row_tile, int64_t column_tile) {
    const int64_t row = begin_ + row_tile * kTile, column = column_tile * kTile;
    HWY_DYNAMIC_DISPATCH(UpdateTile)
    (a_.Row(row) + first, packed_.data() + column * width_, width_, a_.stride, RowsOf(row_tile),
     RowsOf(column_tile), a_.Row(row) + begin_ + column);
  }

  void UpdateTrailing(int64_t first) {
    const int64_t tiles = Tiles();
    ParallelFor(tiles * (tiles + 1) / 2, [&](int64_t item) {
      int64_t row_tile = 0;
      while (item > row_tile) item -= ++row_tile;
      if (row_tile > 0 && IsOwn(row_tile)) UpdateTile(first, row_tile, item);
    });
  }

  // Every rank gets the panel's rows of all, packed as well, and the top of the next; false where
  // that was not positive definite.
  bool Exchange(int64_t first, bool good) {
    if (ranks_ == nullptr) return good;
    std::vector<double> own;
    const int64_t next_width = std::min(kPanel, a_.rows - begin_);
    if (IsOwn(0)) {
      own.push_back(good ? 1.0 : 0.0);
      own.insert(own.end(), u_.data(), u_.data() + kPanel * kPanel);
    }
    for (int64_t tile = 0; tile < Tiles(); ++tile) {
      if (!IsOwn(tile)) continue;
      for (int64_t r = 0; r < RowsOf(tile); ++r) {
        const double* row = a_.Row(begin_ + tile * kTile + r) + first;
        own.insert(own.end(), row, row + width_);
      }
    }
    ranks_->InTurn(std::as_bytes(std::span(own)), [&](int rank, std::span<const std::byte> bytes) {
      const auto* next = reinterpret_cast<const double*>(bytes.data());
      if (rank == OwnerOf(0)) good = *next++ != 0.0;
      if (rank == ranks_->rank()) return;
      if (rank == OwnerOf(0)) next = TakeTop(next, next_width);
      for (int64_t tile = 0; tile < Tiles(); ++tile) {
        if (OwnerOf(tile) == rank) next = TakeRows(first, tile, next);
      }
    });
    return good;
  }

  const double* TakeTop(const double* from, int64_t width) {
    std::copy_n(from, kPanel * kPanel, u_.data());
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t j = 0; j <= i; ++j) a_.Row(begin_ + i)[begin_ + j] = u_[j * kPanel + i];
    }
    return from + kPanel * kPanel;
  }

  const double* TakeRows(int64_t first, int64_t tile, const double* from) {
    const int64_t top = tile * kTile, rows = RowsOf(tile);
    ParallelFor(DivideRoundUp(rows, kGroup), [&](int64_t item) {
      const int64_t begin = item * kGroup;
      double* group = packed_.data() + (top + begin) * width_;
      for (int64_t r = 0; r < kGroup; ++r) {
        const bool within = begin + r < rows;
        const double* row = from + (begin + r) * width_;
        if (within) std::copy_n(row, width_, a_.Row(begin_ + top + begin + r) + first);
        for (int64_t k = 0; k < width_; ++k) group[k * kGroup + r] = within ? row[k] : 0.0;
      }
    });
    return from + rows * width_;
  }

  const MatrixView<double> a_;
  const double smallest_pivot_;
  Ranks* const ranks_;
  AlignedBuffer<double> u_;       // the transpose of the panel's top, kPanel apart
  AlignedBuffer<double> packed_;  // the panel's rows below it, in groups
  int64_t width_ = 0;             // of the panel
  int64_t begin_ = 0;             // of what is below it
};

}  // namespace

bool FactorCholesky(MatrixView<double> a, double smallest_pivot, Ranks* ranks) {
  NARROW_CHECK(a.rows == a.columns && smallest_pivot > 0.0);
  if (ranks != nullptr && ranks->count() == 1) ranks = nullptr;
  return Factorization(a, smallest_pivot, ranks).Run();
}

}  // namespace narrow
#endif  // HWY_ONCE
