// What a GGUF file says about scaled rotary position embeddings, as transformers writes it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "import/gguf_model.h"
#include "import/metadata.h"
#include "io/json.h"

namespace narrow {

// Factor 1 / (frequency after / frequency before) of each pair of a head under Llama 3.1 scaling
// with low_freq_factor 1, high_freq_factor 4 and 8192 original positions: [head_dim / 2].
// Source: "rope_type": "llama3" of transformers; GGUF stores the result as rope_freqs.weight.
std::vector<double> Llama3RopeFactors(double theta, int64_t head_dim, double factor);

// The member "rope_scaling" of config.json: null, linear, yarn, llama3 or longrope. Throws:
// kCorruptInput for factors that contradict the type or are missing; kUnsupported for another type,
// and for rope_freqs.weight that is not Llama 3.1's.
Json RopeScalingJson(const GgufMetadata& metadata, const GgufModel& model);

}  // namespace narrow
