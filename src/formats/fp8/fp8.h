// Export format `fp8`: what vLLM loads with quant_method "fp8".
// Source: vLLM 0.32, layers/quantization/fp8.py; docs/formats/checkpoint.md.
#pragma once

#include "formats/description.h"
#include "formats/registry.h"
#include "io/json.h"

namespace narrow {

// ignored_layers holds full module names: the loader compares them whole, without patterns.
Json Fp8QuantizationConfig(const QuantizedCheckpointDescription& description);

// self_attn.q_scale, k_scale and v_scale.
AttentionScaleTensors Fp8AttentionScaleTensors(const AttentionModule& attention);

}  // namespace narrow
