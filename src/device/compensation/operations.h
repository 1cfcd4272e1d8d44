// What compensated rounding computes, counted before it begins.
#pragma once

#include <cstdint>

namespace narrow {

// Compensated rounding: operations to sum the statistics of one sampled token for an input of
// `columns` columns in blocks of `block_columns` (0: one block; only tiles of the lower triangle),
// to factor them, and to round one row of weights (twice: compensated, and to nearest for the
// report).
double HessianFlopsPerToken(int64_t columns, int64_t block_columns);
double FactorFlops(int64_t columns, int64_t block_columns);
double RoundingFlopsPerRow(int64_t columns, int64_t block_columns);

// The largest share of `threads` that compensated rounding can occupy: it works on RewriteRows at a
// time, 128 rows a thread.
double RoundingOccupancy(int64_t columns, int64_t threads);

}  // namespace narrow
