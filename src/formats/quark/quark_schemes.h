// Format `quark` for schemes whose scales need no calibration: ptpc_fp8 and mxfp4.
// Source: AMD Quark 0.13 and vLLM 0.32, layers/quantization/quark; docs/schemes.md.
#pragma once

#include <vector>

#include "formats/scheme_format.h"
#include "io/json.h"

namespace narrow {

bool QuarkHolds(const LinearScheme& scheme);
WeightRule QuarkRule(const LinearScheme& scheme);
// P.weight and P.weight_scale: E4M3 and [rows], or two codes a byte and E8M0.
std::vector<PartTensor> QuarkParts(const SourceLinear& linear, const LinearScheme& scheme);
Json QuarkSchemeConfig(const SchemeDescription& description);

}  // namespace narrow
