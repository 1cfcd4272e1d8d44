// Scales of the weights of one group of linears.
#pragma once

#include <span>
#include <vector>

#include "pipeline/loaded_layer.h"
#include "quantization/scheme.h"

namespace narrow {

// Which matrices share a weight scale.
enum class WeightScales {
  kPerMatrix,      // --no_weight_matrix_merge
  kPerFusedGroup,  // q/k/v one, gate/up one: the scale a serving engine ends up with
};

// What a group's weights are multiplied by before they are rounded; empty for 1.
struct WeightFactors {
  std::vector<float> columns;
  std::vector<float> rows;  // of the linears stacked

  // In place; rows [n, columns] start at `first_row` of the group.
  void Apply(int64_t first_row, MatrixView<float> rows_of_group) const;
};

struct WeightScale {
  float amax = 0.0f;  // after the factors
  float scale = 1.0f;
};

struct GroupScales {
  std::vector<WeightScale> linears;
  std::vector<double> column_energy;  // sums of squares of the weights; empty where not known
};

// Scales as large as the largest weight asks for.
GroupScales RangeScales(const std::vector<LoadedLinear>& linears,
                                     const QuantizationScheme& scheme, WeightScales sharing);

// Scales up to twice as large, at the phase where rounding the weights to nearest changes the
// outputs least: squared errors of a column count by `importance`, the energy of its input. All
// linears of the group get the same phase, so that their own scales differ by powers of two: when a
// serving engine brings them to the largest one, codes lose nothing but bits of subnormal numbers.
// Reads the group's weights once.
template <typename T>
GroupScales GridScales(const LoadedLayer<T>& layer, LinearGroup group,
                                    const WeightFactors& factors,
                                    std::span<const double> importance,
                                    const QuantizationScheme& scheme, WeightScales sharing);

}  // namespace narrow
