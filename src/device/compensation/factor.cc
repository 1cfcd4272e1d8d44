#include "device/compensation/factor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "kernels/cholesky.h"

namespace narrow {
namespace {

constexpr int64_t kStripRows = 64;

float Diagonal(const HessianAccumulator::Block& block, int64_t i) {
  return block.values[i * block.columns + i];
}

struct DiagonalSummary {
  double mean = 0.0;  // over columns that are not dead
  int64_t dead = 0;
};

DiagonalSummary SummarizeDiagonal(const std::vector<HessianAccumulator::Block>& blocks,
                                  int64_t columns) {
  DiagonalSummary summary;
  double sum = 0.0;
  for (const auto& block : blocks) {
    for (int64_t i = 0; i < block.columns; ++i) {
      const float value = Diagonal(block, i);
      if (!std::isfinite(value)) {
        Fail(ErrorCode::kNumeric,
             "expected finite inputs for error-compensated rounding, found NaN, infinity or an "
             "overflow of squares in input column {}; exclude the layer or use --quant_algo none",
             block.first_column + i);
      }
      if (value == 0.0f) ++summary.dead;
      sum += value;
    }
  }
  if (summary.dead < columns) summary.mean = sum / static_cast<double>(columns - summary.dead);
  return summary;
}

// Columns of the block by how much their rounding moves the outputs.
std::vector<int32_t> RoundingOrder(const HessianAccumulator::Block& block,
                                   std::span<const double> column_energy) {
  std::vector<int32_t> order(block.columns);
  std::iota(order.begin(), order.end(), 0);
  const auto error = [&](int32_t i) {
    const double energy = column_energy.empty() ? 1.0 : column_energy[block.first_column + i];
    return Diagonal(block, i) * energy;
  };
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return error(a) > error(b); });
  return order;
}

// The lower triangle of H + lambda I with the columns in reverse order: its lower Cholesky factor,
// read backwards, is the upper triangular R.
void GatherReversed(const HessianAccumulator::Block& block, const std::vector<int32_t>& order,
                    double lambda, MatrixView<double> to) {
  const int64_t n = block.columns;
  ParallelFor(DivideRoundUp(n, kStripRows), [&](int64_t strip) {
    for (int64_t i = strip * kStripRows; i < std::min(n, (strip + 1) * kStripRows); ++i) {
      const int64_t row = order[n - 1 - i];
      for (int64_t j = 0; j <= i; ++j) {
        const int64_t column = order[n - 1 - j];
        to.Row(i)[j] = block.values[std::max(row, column) * n + std::min(row, column)];
      }
      to.Row(i)[i] += lambda;
    }
  });
}

// F_ij = R_ji / R_ii with R_ji = L[n - 1 - j][n - 1 - i].
void WriteFeedback(MatrixView<const double> l, CompensationFactor::Block& block) {
  const int64_t n = block.columns;
  block.pivots.resize(n);
  ParallelFor(DivideRoundUp(n, kStripRows), [&](int64_t strip) {
    const int64_t first = strip * kStripRows;
    const int64_t last = std::min(n, first + kStripRows);
    for (int64_t i = first; i < last; ++i) {
      const double root = l.Row(n - 1 - i)[n - 1 - i];
      block.pivots[i] = static_cast<float>(root * root);
    }
    for (int64_t j = 0; j < last; ++j) {
      const double* row = l.Row(n - 1 - j);
      for (int64_t i = std::max(first, j + 1); i < last; ++i) {
        block.feedback[i * n + j] =
            static_cast<float>(row[n - 1 - i] / l.Row(n - 1 - i)[n - 1 - i]);
      }
    }
  });
}

// The ranks of the job, where dividing pays.
Ranks* RanksFor(int64_t columns) {
  constexpr int64_t kFewestOnHost = 256;
  const int64_t fewest =
      JobRanks().shares_host() ? kFewestOnHost : CompensationFactor::kFewestAcrossHosts;
  return columns < fewest ? nullptr : &JobRanks();
}

// Returns the damping it took.
double FactorBlock(HessianAccumulator::Block& hessian, double mean, double damping,
                   CompensationFactor::Block& block) {
  const int64_t n = hessian.columns;
  AlignedBuffer<double> memory(n * n);
  const MatrixView<double> matrix(memory.data(), n, n);
  for (double share = damping;; share *= 10.0) {
    block.lambda = mean > 0.0 ? share * mean : 1.0;
    GatherReversed(hessian, block.order, block.lambda, matrix);
    // No pivot of a positive semidefinite matrix plus lambda I is below lambda; one below half of
    // it shows that the rounding errors in H are as large as the damping.
    if (FactorCholesky(matrix, 0.5 * block.lambda, RanksFor(n))) {
      block.feedback = std::move(hessian.values);
      WriteFeedback(matrix, block);
      return share;
    }
    // A lambda of the whole trace dominates any error in the elements of H.
    NARROW_CHECK(share <= 10.0 * static_cast<double>(n));
  }
}

}  // namespace

int64_t CompensationFactor::Bytes(int64_t columns, int64_t block_columns) {
  const int64_t widest = block_columns == 0 ? columns : std::min(block_columns, columns);
  return widest * widest * static_cast<int64_t>(sizeof(double));
}

CompensationFactor::CompensationFactor(HessianAccumulator hessian, double damping,
                                       std::span<const double> column_energy)
    : columns_(hessian.columns()), tokens_(hessian.tokens()), damping_(damping) {
  NARROW_CHECK(damping > 0.0 && std::isfinite(damping));
  NARROW_CHECK(column_energy.empty() || std::ssize(column_energy) == columns_);
  std::vector<HessianAccumulator::Block> blocks = hessian.TakeBlocks();
  const DiagonalSummary diagonal = SummarizeDiagonal(blocks, columns_);
  dead_columns_ = diagonal.dead;
  for (HessianAccumulator::Block& source : blocks) {
    Block& block = blocks_.emplace_back();
    block.first_column = source.first_column;
    block.columns = source.columns;
    block.order = RoundingOrder(source, column_energy);
    damping_ = std::max(damping_, FactorBlock(source, diagonal.mean, damping, block));
  }
}

}  // namespace narrow
