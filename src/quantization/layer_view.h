// The versions of a quantized layer that texts go through.
#pragma once

#include "kernels/float8.h"
#include "model/loaded_layer.h"

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
// load: linears in FP8 with a scale per tensor go through float16, and those of a fused group are
// requantized with the group's largest scale; of two levels of scales the largest global divisor
// is that of the group. They replace the stored ones, so that there is no way back. Others run as
// they are stored. REQUIRES: `view.weights` is not kStored after kDeployed. Source: vLLM 0.32,
// quantization/utils/w8a8_utils.py, requantize_with_max_scale, whatever the format of the
// checkpoint (fp8_utils.py, process_fp8_weight_tensor_strategy).
void Become(LoadedLayer& layer, const LayerView& view);

// The code vLLM holds in place of `code` after loading: code * scale in float16 steps, divided by
// `group_scale`.
Float8E4M3 DeployedCode(Float8E4M3 code, float scale, float group_scale);

}  // namespace narrow
