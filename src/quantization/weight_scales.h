// Scales of the weights of one group of linears.
#pragma once

#include <vector>

#include "model/loaded_layer.h"
#include "quantization/scheme.h"

namespace narrow {

// Which matrices share a weight scale.
enum class WeightScales {
  kPerMatrix,      // --no_weight_matrix_merge
  kPerFusedGroup,  // q/k/v one, gate/up one: the scale a serving engine ends up with
};

// What is known of a group's weights after they were read.
struct GroupWeights {
  std::vector<float> amax;            // of each linear
  std::vector<double> column_energy;  // sums of squares over the rows of all linears
};

// `change`: done to the weights before they are measured.
GroupWeights MeasureWeights(const LoadedLayer& layer, LinearGroup group,
                            const RowsRewriter& change);

// How scales of the matrices of a group differ when each has its own.
enum class OwnScales {
  kOfRange,      // each as its largest weight asks for
  kPowersOfTwo,  // the group's largest scale divided by powers of two, as far as ranges allow: when
                 // a serving engine brings them to the largest, only subnormal codes lose bits
};

// A scale for each linear of a group.
std::vector<float> ChooseWeightScales(const std::vector<float>& amax,
                                      const QuantizationScheme& scheme, WeightScales sharing,
                                      OwnScales own);

}  // namespace narrow
