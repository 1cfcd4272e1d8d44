// From ranges to scales, and from weights to codes.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pipeline/layer_weights.h"
#include "pipeline/range_recorder.h"
#include "quantization/scheme.h"

namespace narrow {

// Which matrices share a weight scale.
enum class WeightScales {
  kPerMatrix,      // --no_weight_matrix_merge
  kPerFusedGroup,  // q/k/v one, gate/up one: the scale a serving engine ends up with
};

enum class CacheScheme { kNone, kFp8 };

struct LayerQuantizationOptions {
  const QuantizationScheme* scheme = nullptr;
  WeightScales weight_scales = WeightScales::kPerFusedGroup;
  CacheScheme cache = CacheScheme::kNone;
  float min_cache_scale = 0.0f;
  std::set<std::string> excluded;  // modules that stay as they are
};

// What is known of one quantized linear, for the report.
struct LinearFacts {
  std::string module;
  float weight_amax = 0.0f;
  float weight_scale = 0.0f;
  float input_amax = 0.0f;
  float input_scale = 0.0f;
  int64_t elements = 0;
  int64_t saturated = 0;
};

struct CacheFacts {
  std::string attention_module;
  float key_amax = 0.0f;
  float key_scale = 0.0f;
  float value_amax = 0.0f;
  float value_scale = 0.0f;
};

struct LayerFacts {
  std::vector<LinearFacts> linears;
  std::optional<CacheFacts> cache;
};

// Quantizes the layer's linears in place (codes and scales take the weights' place) and sets the cache
// scales. Throws: kNumeric naming a tensor with NaN or infinity.
LayerFacts QuantizeLayer(StoredLayer& layer, const LayerRanges& ranges,
                         const LayerQuantizationOptions& options);

}  // namespace narrow
