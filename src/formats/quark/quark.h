// Export format `quark`: what vLLM loads with quant_method "quark", the layout AMD Quark writes.
// Source: AMD Quark 0.13 and vLLM 0.32, layers/quantization/quark; docs/formats/checkpoint.md.
#pragma once

#include "formats/description.h"
#include "formats/registry.h"
#include "io/json.h"

namespace narrow {

Json QuarkQuantizationConfig(const QuantizedCheckpointDescription& description);

// output_scale of q_proj, k_proj and v_proj. Quark stores the larger of the last two in both;
// loaders keep them apart, so each cache has the scale of its own range here. The first is no
// quantizer of Quark's own: vLLM takes it for the scale of the queries.
AttentionScaleTensors QuarkAttentionScaleTensors(const AttentionModule& attention);

}  // namespace narrow
