// What a GGUF file says about scaled rotary position embeddings, as transformers writes it.
#pragma once

#include <optional>
#include <span>

#include "import/metadata.h"

namespace narrow {

// Factor 1 / (frequency after / frequency before) of each pair of a head under Llama 3.1 scaling
// with low_freq_factor 1, high_freq_factor 4 and 8192 original positions: [head_dim / 2].
// Source: "rope_type": "llama3" of transformers; GGUF stores the result as rope_freqs.weight.
std::vector<double> Llama3RopeFactors(double theta, int64_t head_dim, double factor);

// The factor (8 or 32) whose Llama3RopeFactors are `factors`. Throws: kUnsupported for any other
// factors, naming the tensor.
double MatchLlama3Factor(std::span<const float> factors, double theta, const std::string& what);

// Factor of linear scaling from the metadata; nothing when there is none. Throws: kUnsupported for
// yarn, longrope and whatever else.
std::optional<double> LinearRopeFactor(const GgufMetadata& metadata);

}  // namespace narrow
