#include "evaluation/perplexity.h"

#include <cmath>
#include <cstddef>

#include "base/error.h"

namespace narrow {

double MeanOverTokens(std::span<const double> window_means, std::span<const int64_t> tokens) {
  NARROW_CHECK(!window_means.empty() && window_means.size() == tokens.size());
  double sum = 0.0, weight = 0.0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    NARROW_CHECK(tokens[i] > 0);
    // In units of the first window, so that windows of one size are summed up as they are.
    const double share = static_cast<double>(tokens[i]) / static_cast<double>(tokens[0]);
    sum += share * window_means[i];
    weight += share;
  }
  return sum / weight;
}

double Perplexity(std::span<const double> window_nll, std::span<const int64_t> predicted_tokens) {
  return std::exp(MeanOverTokens(window_nll, predicted_tokens));
}

}  // namespace narrow
