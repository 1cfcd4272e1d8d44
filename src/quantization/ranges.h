// Ranges: the largest magnitudes one layer sees.
#pragma once

#include <array>
#include <vector>

#include "model/spec.h"

namespace narrow {

// Largest magnitude of every channel.
struct LayerRanges {
  std::array<std::vector<float>, kLinearGroupCount> inputs;  // by LinearGroup
  std::vector<float> queries;                                // after the rotation
  std::vector<float> keys;                                   // likewise
  std::vector<float> values;

  const std::vector<float>& Input(LinearGroup group) const {
    return inputs[static_cast<std::size_t>(group)];
  }
};

// The largest of a tensor's channels.
float LargestOf(const std::vector<float>& maxima);

}  // namespace narrow
