#include "evaluation/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "base/error.h"
#include "evaluation/perplexity.h"

namespace narrow {
namespace {

constexpr double kNoiseFactorOfMany = 2.0;  // NoiseFactor of many windows

// Of every window the mean of value(original outcome, variant outcome).
template <class Value>
std::vector<double> WindowMeans(std::span<const WindowOutcomes> windows, const Value& value) {
  std::vector<double> means;
  for (const WindowOutcomes& window : windows) {
    double sum = 0.0;
    for (std::size_t i = 0; i < window.original.size(); ++i) {
      sum += value(window.original[i], window.variant[i]);
    }
    means.push_back(sum / static_cast<double>(window.original.size()));
  }
  return means;
}

// In integers, as 0.999 * tokens may lie on either side of a whole number.
double OrderStatistic(std::vector<double>& values, int64_t per_mille) {
  const int64_t rank = (std::ssize(values) * per_mille + 999) / 1000;  // from 1
  const auto place = values.begin() + (rank - 1);
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

void SummarizeKl(std::span<const WindowOutcomes> windows, DivergenceSummary& summary) {
  summary.window_kl = WindowMeans(
      windows, [](const TokenOutcome&, const TokenOutcome& variant) { return variant.kl; });
  summary.kl = EstimateOverWindows(summary.window_kl, summary.window_tokens);
  std::vector<double> values;
  for (const WindowOutcomes& window : windows) {
    for (const TokenOutcome& outcome : window.variant) values.push_back(outcome.kl);
  }
  summary.tokens = std::ssize(values);
  summary.kl_median = OrderStatistic(values, 500);
  summary.kl_99 = OrderStatistic(values, 990);
  summary.kl_999 = OrderStatistic(values, 999);
  summary.kl_maximum = OrderStatistic(values, 1000);
}

void SummarizeAgreement(std::span<const WindowOutcomes> windows, DivergenceSummary& summary) {
  const auto estimate = [&](const auto& value) {
    return EstimateOverWindows(
        WindowMeans(windows, [&](const TokenOutcome&, const TokenOutcome& v) { return value(v); }),
        summary.window_tokens);
  };
  summary.top1_agreement =
      estimate([](const TokenOutcome& variant) { return variant.top1_agrees ? 1.0 : 0.0; });
  summary.top1_in_top5 =
      estimate([](const TokenOutcome& variant) { return variant.top1_in_top5 ? 1.0 : 0.0; });
  summary.top5_overlap =
      estimate([](const TokenOutcome& variant) { return variant.top5_overlap / 5.0; });
}

void SummarizeProbability(std::span<const WindowOutcomes> windows, DivergenceSummary& summary) {
  const auto change = [](const TokenOutcome& original, const TokenOutcome& variant) {
    return variant.probability() - original.probability();
  };
  summary.probability_change =
      EstimateOverWindows(WindowMeans(windows, change), summary.window_tokens);
  const std::vector<double> squares =
      WindowMeans(windows, [&](const TokenOutcome& original, const TokenOutcome& variant) {
        return change(original, variant) * change(original, variant);
      });
  summary.probability_change_rms = std::sqrt(MeanOverTokens(squares, summary.window_tokens));
}

std::vector<HurtToken> WorstTokens(std::span<const WindowOutcomes> windows, int64_t count) {
  std::vector<HurtToken> hurt;
  for (std::size_t w = 0; w < windows.size(); ++w) {
    for (std::size_t i = 0; i < windows[w].variant.size(); ++i) {
      const TokenOutcome& variant = windows[w].variant[i];
      const double increase = variant.nll - windows[w].original[i].nll;
      if (increase > 0.0) {
        hurt.push_back({static_cast<int64_t>(w), static_cast<int64_t>(i), increase, variant.kl});
      }
    }
  }
  const auto worse = [](const HurtToken& a, const HurtToken& b) {
    return std::tuple(-a.nll_increase, a.window, a.position) <
           std::tuple(-b.nll_increase, b.window, b.position);
  };
  const auto end = hurt.begin() + std::min<int64_t>(count, std::ssize(hurt));
  std::partial_sort(hurt.begin(), end, hurt.end(), worse);
  hurt.erase(end, hurt.end());
  return hurt;
}

void CheckWindows(std::span<const WindowOutcomes> windows) {
  NARROW_CHECK(!windows.empty());
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const WindowOutcomes& window = windows[w];
    NARROW_CHECK(!window.original.empty() && window.original.size() == window.variant.size());
    for (std::size_t i = 0; i < window.original.size(); ++i) {
      const double original = window.original[i].nll, variant = window.variant[i].nll;
      if (std::isfinite(original) && std::isfinite(variant) &&
          std::isfinite(window.variant[i].kl)) {
        continue;
      }
      Fail(ErrorCode::kNumeric,
           "evaluation window {}, token {}: loss of the original {}, of the quantized model {}, "
           "divergence {}, expected finite numbers; look for NaN or infinity in the weights",
           w, i, original, variant, window.variant[i].kl);
    }
  }
}

}  // namespace

Estimate EstimateOverWindows(std::span<const double> window_means,
                             std::span<const int64_t> tokens) {
  const auto n = static_cast<double>(window_means.size());
  Estimate estimate;
  estimate.mean = MeanOverTokens(window_means, tokens);
  if (window_means.size() == 1) return estimate;
  const auto all = static_cast<double>(std::accumulate(tokens.begin(), tokens.end(), int64_t{0}));
  double squares = 0.0;
  for (std::size_t w = 0; w < window_means.size(); ++w) {
    const double deviation =
        n * static_cast<double>(tokens[w]) / all * (window_means[w] - estimate.mean);
    squares += deviation * deviation;
  }
  estimate.standard_error = std::sqrt(squares / (n * (n - 1.0)));
  return estimate;
}

DivergenceSummary SummarizeDivergence(std::span<const WindowOutcomes> windows,
                                      int64_t worst_count) {
  NARROW_CHECK(worst_count >= 0);
  CheckWindows(windows);
  const auto original_nll = [](const TokenOutcome& original, const TokenOutcome&) {
    return original.nll;
  };
  const auto variant_nll = [](const TokenOutcome&, const TokenOutcome& variant) {
    return variant.nll;
  };
  const auto increase = [](const TokenOutcome& original, const TokenOutcome& variant) {
    return variant.nll - original.nll;
  };
  DivergenceSummary summary;
  for (const WindowOutcomes& window : windows) {
    summary.window_tokens.push_back(std::ssize(window.original));
  }
  summary.original_window_nll = WindowMeans(windows, original_nll);
  summary.window_nll = WindowMeans(windows, variant_nll);
  summary.original_perplexity = Perplexity(summary.original_window_nll, summary.window_tokens);
  summary.perplexity = Perplexity(summary.window_nll, summary.window_tokens);
  summary.nll_increase = EstimateOverWindows(WindowMeans(windows, increase), summary.window_tokens);
  SummarizeKl(windows, summary);
  SummarizeAgreement(windows, summary);
  SummarizeProbability(windows, summary);
  summary.worst = WorstTokens(windows, worst_count);
  return summary;
}

double NoiseFactor(int64_t windows) {
  static constexpr double kStudent[] = {// by degrees of freedom, from 1
                                        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                        2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                        2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                        2.060,  2.056, 2.052, 2.048, 2.045};
  NARROW_CHECK(windows >= 2);
  const int64_t freedom = windows - 1;
  return freedom <= std::ssize(kStudent) ? kStudent[freedom - 1] : kNoiseFactorOfMany;
}

std::string Verdict(const DivergenceSummary& summary) {
  const Estimate& increase = summary.nll_increase;
  const double percent = 100.0 * std::expm1(increase.mean);
  const char* direction = increase.mean < 0.0 ? "falls" : "rises";
  if (!increase.standard_error) {
    return fmt::format(
        "loss {} by {:.4f} nats per token: perplexity {:+.1f} % (one window: no estimate of noise)",
        direction, std::fabs(increase.mean), percent);
  }
  const double error = *increase.standard_error;
  const auto windows = std::ssize(summary.window_nll);
  if (std::fabs(increase.mean) <= NoiseFactor(windows) * error) {
    const bool enough_for_many = std::fabs(increase.mean) > kNoiseFactorOfMany * error;
    const std::string judgement =
        enough_for_many ? fmt::format("too few windows ({}) to tell it from noise", windows)
                        : "within noise";
    return fmt::format(
        "{}: loss changes by {:+.4f} ± {:.4f} nats per token, perplexity by {:+.1f} %", judgement,
        increase.mean, error, percent);
  }
  return fmt::format("loss {} by {:.4f} ± {:.4f} nats per token: perplexity {:+.1f} %", direction,
                     std::fabs(increase.mean), error, percent);
}

}  // namespace narrow
