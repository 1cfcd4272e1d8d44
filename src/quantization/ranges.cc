#include "quantization/ranges.h"

#include <algorithm>

namespace narrow {

float LargestOf(const std::vector<float>& maxima) {
  return maxima.empty() ? 0.0f : *std::max_element(maxima.begin(), maxima.end());
}

}  // namespace narrow
