// The largest magnitude in every column of a matrix. SIMD with run-time dispatch, on the calling
// thread.
#pragma once

#include <span>

#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {

// maxima[c] = max(maxima[c], |rows[0][c]|, |rows[1][c]|, ...). A NaN counts as more than infinity
// and stays, so that one look at the result finds any number that is not finite.
// REQUIRES: maxima.size() == rows.columns; maxima are not negative.
template <typename T>  // float or Bfloat16
void IncludeColumnMaxima(MatrixView<const T> rows, std::span<float> maxima);

}  // namespace narrow
