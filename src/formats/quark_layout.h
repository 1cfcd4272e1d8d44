// What both spellings of Quark's FP8 checkpoints share.
// Source: AMD Quark 0.13, export_safetensors; docs/formats/checkpoint.md.
#pragma once

#include "formats/description.h"
#include "formats/registry.h"
#include "io/json.h"

namespace narrow {

// P.weight, P.weight_scale, P.input_scale. Quark stores scales in the model's dtype; here they are
// F32, which loaders accept and which keeps amax / 448 unrounded.
LinearTensors QuarkLinearTensors(const QuantizedLinear& linear);

// A dequantization scale of the whole tensor: F32 [].
TensorSpec ScalarScale(std::string name);

// The "export" member. vLLM requires it of quark checkpoints and ignores it in fp8 ones.
Json QuarkExportBlock(const QuantizedCheckpointDescription& description);

}  // namespace narrow
