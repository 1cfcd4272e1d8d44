#include "evaluation/perplexity.h"

#include <cmath>
#include <numeric>

#include "base/error.h"

namespace narrow {

double Perplexity(std::span<const double> window_nll) {
  NARROW_CHECK(!window_nll.empty());
  const double sum = std::accumulate(window_nll.begin(), window_nll.end(), 0.0);
  return std::exp(sum / static_cast<double>(window_nll.size()));
}

}  // namespace narrow
