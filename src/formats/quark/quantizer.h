// The quantizers of Quark's config block, and the block around them.
// Source: AMD Quark 0.13, quantization/config/config.py as its checkpoints hold it.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"
#include "schemes/tensor_scheme.h"

namespace narrow {

enum class QuarkSide { kWeight, kInput };

// One quantizer: E4M3 per tensor, per row or token, or E2M1 in groups with E8M0 scales.
Json QuarkQuantizer(const TensorScheme& scheme, QuarkSide side);

struct QuarkConfigParts {
  std::vector<std::string> excluded;
  Json global;                         // the quantizers of a linear
  Json cache_layers = Json::object();  // those of linears that fill the cache, by pattern
  Json exported = nullptr;             // "export"; null: that of a checkpoint without a cache
};
Json QuarkConfigBlock(const QuarkConfigParts& parts);

}  // namespace narrow
