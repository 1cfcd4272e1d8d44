// The Hessian of a layer's input in the form that rounding with error compensation works from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/compensation/hessian.h"

namespace narrow {

// How the rounding errors of earlier columns shift the later ones.
//
// With the columns of a block in the order of decreasing diagonal of H, R upper triangular,
// H + lambda I = R R^T and F = (R diag(R)^-1)^T, the output error of a row w rounded to q is
//   (w - q) (H + lambda I) (w - q)^T = sum over i of R_ii^2 (w_i - q_i + sum over j < i of
//   F_ij (w_j - q_j))^2,
// so rounding w_i + (inner sum) makes each term as small as the terms before it allow. These are
// the codes of GPTQ (which propagates the same errors through the inverse of H, step by step),
// without an inverse. Source: Frantar et al., GPTQ, 2022; Chee et al., QuIP, 2023, theorem 6.
//
// Immutable, so thread-safe once made. The contents do not depend on the number of threads.
class CompensationFactor {
 public:
  struct Block {
    int64_t first_column = 0;
    int64_t columns = 0;
    std::vector<int32_t> order;  // order[i]: column (within the block) to round as the i-th
    AlignedBuffer<float>
        feedback;               // F [columns, columns]: valid below the diagonal, else undefined
    std::vector<float> pivots;  // R_ii^2 > 0
    double lambda = 0.0;
  };

  // `damping`: lambda as a share of the mean diagonal over columns that are not dead (whose inputs
  // are not all zero). Where that leaves a block not positive definite, ten times as much is tried,
  // and so on. A dead column is rounded to nearest and moves no other. Uses all threads; takes the
  // memory of `hessian` over and needs 8 bytes per element of the largest block meanwhile. All
  // ranks of the job make the same one, and factor large blocks together. Throws: kNumeric when H
  // is not finite (NaN or infinity in the inputs). `column_energy`: mean squares of the weights of
  // every column, where they are known: columns are then rounded in the order of decreasing H_ii
  // times this, of the error their rounding makes.
  explicit CompensationFactor(HessianAccumulator hessian, double damping = 0.01,
                              std::span<const double> column_energy = {});

  // Blocks of fewer columns are not divided over ranks that are on several hosts: at 10 Gbit/s the
  // exchange for so many takes as long as the n^3 / 3 operations do at 850 GFLOP/s.
  static constexpr int64_t kFewestAcrossHosts = 8192;

  // Memory it needs beside that of the accumulator, at most, for budgets.
  static int64_t Bytes(int64_t columns, int64_t block_columns);

  int64_t columns() const { return columns_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  int64_t tokens() const { return tokens_; }  // H was summed over
  int64_t dead_columns() const { return dead_columns_; }
  double damping() const { return damping_; }  // the largest that was needed

 private:
  int64_t columns_ = 0;
  int64_t tokens_ = 0;
  int64_t dead_columns_ = 0;
  double damping_ = 0.0;
  std::vector<Block> blocks_;
};

}  // namespace narrow
