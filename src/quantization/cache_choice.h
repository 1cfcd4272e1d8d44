// Scales of the KV cache of a model whose weights stay.
#pragma once

#include <string>

#include "model/decoder_layer.h"
#include "quantization/ranges.h"
#include "tensor/dtype.h"

namespace narrow {

// A cache that is tried.
enum class CacheTrial {
  kUnscaled,  // as a server takes it that has no scales: 1.0
  kTensor,    // a scale of K and one of V
  kHeads,     // of each key-value head
};

// Of one layer.
struct CacheChoice {
  std::string attention_module;
  CacheQuantization tensor;
  CacheQuantization heads;  // with the same scale of Q

  CacheQuantization Of(CacheTrial trial) const;
};

// amax / 448, rounded to `type`, as llm-compressor keeps it. REQUIRES: BF16, F16 or F32.
CacheChoice ChooseCache(const LayerSpec& layer, const LayerRanges& ranges, Dtype type);

}  // namespace narrow
