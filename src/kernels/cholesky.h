// Cholesky factorization in f64, blocked, SIMD with run-time dispatch.
#pragma once

#include "base/ranks.h"
#include "tensor/tensor.h"

namespace narrow {

// Replaces the lower triangle of the symmetric matrix a [n, n] by L with a = L L^T, L lower
// triangular; reads the lower triangle only and leaves the strict upper one undefined.
// False when a pivot (the square of an element of L's diagonal) is below smallest_pivot or NaN:
// then a is undefined. Uses all threads; the result does not depend on how many there are.
// REQUIRES: smallest_pivot > 0.
// `ranks`: all of them make this call with the same matrix, and do a part of the work each, by rows
// of tiles; every one gets all of L. About 4 n^2 bytes are exchanged.
bool FactorCholesky(MatrixView<double> a, double smallest_pivot, Ranks* ranks = nullptr);

}  // namespace narrow
