// Export format `quark`: what vLLM loads with quant_method "quark", the layout AMD Quark writes.
// Source: AMD Quark 0.13 and vLLM 0.32, layers/quantization/quark; docs/formats/checkpoint.md.
#pragma once

#include "formats/description.h"
#include "formats/registry.h"
#include "io/json.h"

namespace narrow {

Json QuarkQuantizationConfig(const QuantizedCheckpointDescription& description);

// k_proj.output_scale and v_proj.output_scale. Quark stores the larger of the two in both; loaders
// keep them apart, so each cache has the scale of its own range here.
KvScaleTensors QuarkKvScaleTensors(const AttentionModule& attention);

}  // namespace narrow
