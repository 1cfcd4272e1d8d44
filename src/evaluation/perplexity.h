// Perplexity from the losses of windows.
#pragma once

#include <span>

namespace narrow {

// exp of the plain mean of the windows' mean losses (nats per predicted token). REQUIRES: not
// empty. Source: Quark 0.13 contrib/llm_eval/evaluation.py; docs/formats/checkpoint.md, section
// Perplexity.
double Perplexity(std::span<const double> window_nll);

}  // namespace narrow
