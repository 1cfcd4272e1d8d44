// Which part of quantization costs how much: the same tokens, through networks of which more and
// more is quantized.
#pragma once

#include <span>
#include <vector>

#include "evaluation/divergence.h"

namespace narrow {

enum class QuantizedPart {
  kWeights,
  kInputs,
  kCache,
  kAttention,  // queries and probabilities
};

// Nats per token, over the same windows for all parts.
struct PartCost {
  QuantizedPart part = QuantizedPart::kWeights;
  Estimate kl, nll_increase;     // of the network with this part and those before it
  Estimate kl_added, nll_added;  // over the network without this part, window by window
};

// The costs of the parts, from the summaries of networks in which each and those before it are
// quantized: over the same windows, in the same order. The costs added sum up to those of the last.
// REQUIRES: as many networks as parts.
std::vector<PartCost> AttributeCost(std::span<const QuantizedPart> parts,
                                    std::span<const DivergenceSummary> networks);

}  // namespace narrow
