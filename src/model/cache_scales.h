// What checkpoints call the scales of the KV cache, and the other scales of attention.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "model/spec.h"

namespace narrow {

// The module of the layer's linear of a role. Where q, k and v are one matrix, what the scales of K
// and V go by as if they were three: k_proj and v_proj beside it.
std::string ModuleOf(const LayerSpec& layer, WeightRole role);

struct CacheScaleNames {
  std::string key;
  std::string value;  // the same tensor where one scale is for both
};

// The tensors that vLLM takes for the scales of K and V: k_scale and v_scale of the attention
// module, output_scale or k_scale and v_scale of the projections, or one kv_scale (AutoFP8), which
// is for both where V has none. Nothing when there are none. Throws: kCorruptInput when only one of
// K and V has a scale, and when one has two, of which the last to be loaded would count.
//
// Source: vLLM 0.32, quantization/base_config.py and fp8.py (get_cache_scale_mapper), kv_cache.py.
std::optional<CacheScaleNames> FindCacheScales(const CheckpointReader& checkpoint,
                                               const LayerSpec& layer);

// Whether a layer that has a cache has scales for it: the checkpoint is served with an FP8 cache.
// Layers without one (Gated DeltaNet) say nothing. Throws as above.
bool HasCacheScales(const CheckpointReader& checkpoint, const std::vector<LayerSpec>& layers);

// The tensor that vLLM takes for the scale of Q, which counts where it computes attention in FP8:
// q_scale of the attention module, or output_scale of the projection. Nothing when there is none,
// and vLLM takes 1.0. Throws: kCorruptInput when there are both.
std::optional<std::string> FindQueryScale(const CheckpointReader& checkpoint,
                                          const LayerSpec& layer);

// Names of scales of the probabilities of attention in FP8, which no kernel of vLLM 0.32 reads.
std::vector<std::string> ProbabilityScales(const LayerSpec& layer);

}  // namespace narrow
