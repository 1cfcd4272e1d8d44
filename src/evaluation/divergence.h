// What quantization costs, summed up over all evaluated tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "evaluation/token_comparison.h"

namespace narrow {

// The predictions of one window by the original and by one variant, in the order of the text.
struct WindowOutcomes {
  std::span<const TokenOutcome> original, variant;
};

// A mean over windows and its standard error. Neighbouring tokens share their context, so their
// values are not independent: the window is the unit. With n windows, window w a cluster of m_w
// tokens, M = sum(m_w), and d_w the mean of window w, of the differences where something is paired
// token by token:
//   mean = sum(m_w d_w) / M,
//   standard error = sqrt(sum((n m_w / M)^2 (d_w - mean)^2) / (n (n - 1))).
// Source: Cochran, Sampling Techniques, 3rd edition, 1977, chapter 9 (clusters of equal size) and
// 9A (of unequal size: the ratio to size, without the finite population correction).
// Paired differences and clustered errors for language models: Miller, Adding Error Bars to Evals,
// 2024 (arXiv 2411.00640), whose variance for equal clusters is this without the factor n / (n -
// 1).
struct Estimate {
  double mean = 0.0;
  std::optional<double> standard_error;  // none for a single window
};

// The estimate that windows of these means and numbers of tokens give. REQUIRES: one window or
// more, as many counts, all positive.
Estimate EstimateOverWindows(std::span<const double> window_means, std::span<const int64_t> tokens);

// A token that the variant predicts worse than the original does.
struct HurtToken {
  int64_t window = 0;    // index in the windows summarized
  int64_t position = 0;  // index of its outcome in the window
  double nll_increase = 0.0;
  double kl = 0.0;
};

// Means are over all tokens.
struct DivergenceSummary {
  std::vector<double> original_window_nll, window_nll;  // nats per token
  std::vector<double> window_kl;                        // nats per token
  std::vector<int64_t> window_tokens;                   // predicted
  int64_t tokens = 0;
  double original_perplexity = 0.0;
  double perplexity = 0.0;
  Estimate nll_increase;  // variant less original, nats per token
  Estimate kl;            // nats per token
  // Order statistics over all tokens: the smallest value that at least the fraction q of the tokens
  // does not exceed (the inverse of the empirical distribution: no interpolation; definition 1 of
  // Hyndman and Fan, Sample Quantiles in Statistical Packages, 1996).
  double kl_median = 0.0;
  double kl_99 = 0.0;   // q = 99 %
  double kl_999 = 0.0;  // q = 99.9 %
  double kl_maximum = 0.0;
  Estimate top1_agreement;      // share of tokens whose most probable successor is the same
  Estimate top1_in_top5;        // share whose original favourite is in the variant's top 5
  Estimate top5_overlap;        // mean share of the five that both top 5 have, in any order
  Estimate probability_change;  // of the right token, variant less original
  double probability_change_rms = 0.0;
  std::vector<HurtToken> worst;  // by decreasing nll_increase, then by place; increases only
};

// Throws: kNumeric where an outcome is not finite. REQUIRES: one window or more, none empty,
// original and variant of a window equally long; worst_count >= 0.
DivergenceSummary SummarizeDivergence(std::span<const WindowOutcomes> windows, int64_t worst_count);

// How many standard errors the mean over `windows` windows has to differ from zero to count as more
// than noise at the 5 % level: the 97.5 % quantile of Student's t with windows - 1 degrees of
// freedom, as few windows know their own spread badly (12.7 for two, 2.4 for eight), and 2 from 31
// on. REQUIRES: windows >= 2. Source: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
double NoiseFactor(int64_t windows);

// One sentence: the change is within noise (NoiseFactor standard errors), or the windows are too
// few to tell it from that, or what it is: "loss rises by 0.0495 ± 0.0019 nats per token:
// perplexity +5.1 %", with one standard error after the sign.
std::string Verdict(const DivergenceSummary& summary);

}  // namespace narrow
