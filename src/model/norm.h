// A norm in memory.
#pragma once

#include <span>
#include <vector>

#include "device/operations.h"
#include "model/spec.h"

namespace narrow {

// Owns weight and bias, in f32, with what is added to the weight. Thread-safe.
class Norm {
 public:
  Norm() = default;
  // `weight`, `bias`: as stored; no bias where the spec has none.
  Norm(const NormSpec& spec, std::span<const float> weight, std::span<const float> bias = {});

  // y [rows, size] of x [rows, size].
  void Apply(MatrixView<const float> x, Operands y) const;
  // x [rows, n * segment] in place, each segment by itself: the heads of Q or K. Where the weight
  // is narrower than a row, it repeats.
  void ApplyToSegments(Operands x) const;

 private:
  NormSpec::Kind kind_ = NormSpec::Kind::kRms;
  float epsilon_ = 0.0f;
  int64_t segment_ = 0;
  std::vector<float> weight_, bias_;
};

}  // namespace narrow
