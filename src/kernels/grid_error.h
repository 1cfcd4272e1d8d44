// How well numbers sit on the grid of E4M3 when they are scaled a little: what the choice of scales
// within one power of two is made from. SIMD with run-time dispatch, on the calling thread.
#pragma once

#include <cstdint>

#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {

// Scales within a power of two, evenly spaced in the exponent. A normal E4M3 number keeps four
// significant bits at any exponent, so a whole power of two more changes no relative error.
inline constexpr int64_t kGridPhases = 8;

// 2^(phase / kGridPhases - 1/2), from 0.71 to 1.30.
float GridPhaseFactor(int64_t phase);

// Sums over rows, for every column c, and every phase p with f = GridPhaseFactor(p).
struct GridErrorSums {
  MatrixView<float> errors;   // [kGridPhases, columns]: of round(x f) / f - x
  MatrixView<float> squares;  // [kGridPhases, columns]: of its square
};

// Adds the rows to the sums; round keeps four significant bits (to nearest even). Rows are added in
// order, in f32, so that they may come in any number of calls. REQUIRES: |x| < 1e18.
template <typename T>  // float or Bfloat16
void AddGridErrors(MatrixView<const T> rows, const GridErrorSums& sums);

}  // namespace narrow
