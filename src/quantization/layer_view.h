// The versions of a quantized layer that texts go through.
#pragma once

#include "model/loaded_layer.h"
#include "quantization/scheme.h"

namespace narrow {

// Weights always run quantized where they are.
struct LayerView {
  enum class Weights {
    kStored,    // as the file says, every matrix at its own scale
    kDeployed,  // as vLLM runs them
  } weights = Weights::kStored;
  LinearInputs inputs = LinearInputs::kQuantized;
  CacheContents cache = CacheContents::kQuantized;
  AttentionArithmetic attention = AttentionArithmetic::kDequantized;
};

// From now on the layer runs as the view says. Deployed weights are what vLLM makes of them at
// load: every linear goes through float16, and the linears of a fused group are requantized with
// the group's largest scale; they replace the stored ones, so that there is no way back. REQUIRES:
// `view.weights` is not kStored after kDeployed. Source: docs/formats/checkpoint.md, section "What
// vLLM does at load" (vLLM 0.32, quantization/utils/w8a8_utils.py requantize_with_max_scale).
void Become(LoadedLayer& layer, const LayerView& view, const QuantizationScheme& scheme);

// The code vLLM holds in place of `code` after loading: code * scale in float16 steps, divided by
// `group_scale`.
Float8E4M3 DeployedCode(Float8E4M3 code, float scale, float group_scale);

}  // namespace narrow
