#include "evaluation/attribution.h"

#include "base/error.h"

namespace narrow {
namespace {

Estimate EstimateOfDifference(std::span<const double> minuend, std::span<const double> subtrahend,
                              std::span<const int64_t> tokens) {
  std::vector<double> differences;
  for (std::size_t i = 0; i < minuend.size(); ++i) {
    differences.push_back(minuend[i] - subtrahend[i]);
  }
  return EstimateOverWindows(differences, tokens);
}

}  // namespace

std::vector<PartCost> AttributeCost(std::span<const QuantizedPart> parts,
                                    std::span<const DivergenceSummary> networks) {
  NARROW_CHECK(parts.size() == networks.size());
  std::vector<PartCost> costs;
  for (std::size_t i = 0; i < networks.size(); ++i) {
    const DivergenceSummary& now = networks[i];
    const std::vector<double> kl_before =
        i > 0 ? networks[i - 1].window_kl : std::vector<double>(now.window_kl.size());
    const std::vector<double>& nll_before =
        i > 0 ? networks[i - 1].window_nll : now.original_window_nll;
    NARROW_CHECK(now.window_kl.size() == kl_before.size());
    costs.push_back({parts[i], now.kl, now.nll_increase,
                     EstimateOfDifference(now.window_kl, kl_before, now.window_tokens),
                     EstimateOfDifference(now.window_nll, nll_before, now.window_tokens)});
  }
  return costs;
}

}  // namespace narrow
