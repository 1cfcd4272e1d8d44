// Perplexity from the losses of windows.
#pragma once

#include <cstdint>
#include <span>

namespace narrow {

// The mean over all tokens of all windows, from the mean of each window and its number of tokens.
// Windows of one size count alike: it is the plain mean of theirs. REQUIRES: one window or more, as
// many counts, all positive.
double MeanOverTokens(std::span<const double> window_means, std::span<const int64_t> tokens);

// exp of the mean loss of all predicted tokens (nats); the arguments are as above. Source: Quark
// 0.13 contrib/llm_eval/evaluation.py, whose windows are of one size; docs/formats/checkpoint.md,
// section Perplexity.
double Perplexity(std::span<const double> window_nll, std::span<const int64_t> predicted_tokens);

}  // namespace narrow
