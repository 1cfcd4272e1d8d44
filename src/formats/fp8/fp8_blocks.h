// Format `fp8` with scales per block: the vendors' own checkpoints of DeepSeek, Qwen and others.
// Source: transformers 5.24, integrations/finegrained_fp8.py; vLLM 0.32,
// layers/quantization/fp8.py.
#pragma once

#include <vector>

#include "formats/scheme_format.h"
#include "io/json.h"

namespace narrow {

bool Fp8BlocksHolds(const LinearScheme& scheme);
WeightRule Fp8BlocksRule(const LinearScheme& scheme);
// P.weight and P.weight_scale_inv, which multiplies, despite its name.
std::vector<PartTensor> Fp8BlocksParts(const SourceLinear& linear, const LinearScheme& scheme);
Json Fp8BlocksConfig(const SchemeDescription& description);

}  // namespace narrow
