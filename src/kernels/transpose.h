// Matrix transposition. SIMD with run-time dispatch, on the calling thread.
#pragma once

#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {

// to[c][r] = from[r][c], bit for bit. The matrices do not overlap.
// REQUIRES: to.rows == from.columns; to.columns == from.rows.
template <typename T>  // float or Bfloat16
void Transpose(MatrixView<const T> from, MatrixView<T> to);

}  // namespace narrow
