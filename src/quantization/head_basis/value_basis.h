// The basis of a head of V: the matrix its channels are mixed by, so that FP8 rounds V in the cache
// and attention's output, which o_proj reads, with the least effect on what o_proj makes of them.
//
// Attention is linear in V: with M v in place of v, W_o M^-1 computes the same. A floating-point
// format rounds each channel with an error in proportion to its size, so that the output's squared
// error is in proportion to sum_j (M C M^T)_jj (M^-T G M^-1)_jj, with C the second moments of what
// is rounded and G = W_o^T W_o of the head's columns. Its minimum over all M is
// (trace (C^1/2 G C^1/2)^1/2)^2 / n: M first makes the two matrices the same diagonal one, then
// spreads that evenly over the channels by a Hadamard matrix.
#pragma once

#include "tensor/tensor.h"

namespace narrow {

struct HeadMatrices {
  AlignedBuffer<float> matrix;   // M, [n, n]
  AlignedBuffer<float> inverse;  // of M
};

// The best M for second moments C and weights G, both [n, n], symmetric and positive semidefinite.
// The sum of the channels' mean squares all but stays what it is. Directions of hardly any size
// count as if they had a thousandth of the mean one, so that nothing is blown up that other texts
// may hold. REQUIRES: n is a power of two.
HeadMatrices BestValueBasis(MatrixView<const double> moments, MatrixView<const double> weights);

// sum_j (M C M^T)_jj (M^-T G M^-1)_jj: the squared error of the output, up to a factor.
double ValueBasisError(const HeadMatrices& basis, MatrixView<const double> moments,
                       MatrixView<const double> weights);

}  // namespace narrow
