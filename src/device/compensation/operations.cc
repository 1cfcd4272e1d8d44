#include "device/compensation/operations.h"

#include <algorithm>

#include "base/checked_math.h"
#include "device/compensation/hessian.h"
#include "device/packed_weights.h"
#include "kernels/feedback.h"

namespace narrow {
namespace {

// sum(columns of a block) for every block an input falls into.
template <typename Sum>
double OverBlocks(int64_t columns, int64_t block_columns, const Sum& sum) {
  const int64_t step = HessianAccumulator::BlockColumns(columns, block_columns);
  double total = 0;
  for (int64_t first = 0; first < columns; first += step) {
    total += sum(static_cast<double>(std::min(step, columns - first)));
  }
  return total;
}

}  // namespace

double HessianFlopsPerToken(int64_t columns, int64_t block_columns) {
  return OverBlocks(columns, block_columns, [](double n) {
    return n * (n + static_cast<double>(HessianAccumulator::kTileColumns));
  });
}

double FactorFlops(int64_t columns, int64_t block_columns) {
  return OverBlocks(columns, block_columns, [](double n) { return n * n * n / 3; });
}

double RoundingFlopsPerRow(int64_t columns, int64_t block_columns) {
  return OverBlocks(columns, block_columns, [](double n) { return 2 * n * n; });
}

double RoundingOccupancy(int64_t columns, int64_t threads) {
  const int64_t chunks = DivideRoundUp(RewriteRows(columns), kRoundingChunkRows);
  return static_cast<double>(chunks) /
         static_cast<double>(DivideRoundUp(chunks, threads) * threads);
}

}  // namespace narrow
