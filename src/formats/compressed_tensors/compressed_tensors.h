// Format `compressed-tensors`: what llm-compressor writes and vLLM loads with quant_method
// "compressed-tensors". Source: compressed-tensors 0.19, vLLM 0.32; docs/schemes.md.
#pragma once

#include <vector>

#include "formats/scheme_format.h"
#include "io/json.h"

namespace narrow {

bool CompressedTensorsHolds(const LinearScheme& scheme);
WeightRule CompressedTensorsRule(const LinearScheme& scheme);
// P.weight or P.weight_packed, P.weight_scale and what the scheme has beside them.
std::vector<PartTensor> CompressedTensorsParts(const SourceLinear& linear,
                                               const LinearScheme& scheme);
// "kv_cache_scheme": E4M3 with static scales, per tensor or per key-value head.
Json CompressedTensorsCache(bool per_head);
Json CompressedTensorsConfig(const SchemeDescription& description);

}  // namespace narrow
