#include "quantization/cache_choice.h"

#include <algorithm>

#include "schemes/block_scales.h"

namespace narrow {
namespace {

float ScaleOf(Dtype type, float amax) { return MakeFloatScale(type, Code::kE4M3, {}, amax).stored; }

// Of each head's channels.
std::vector<float> HeadScales(const std::vector<float>& maxima, int64_t head_size, Dtype type) {
  std::vector<float> scales;
  for (auto head = maxima.begin(); head != maxima.end(); head += head_size) {
    scales.push_back(ScaleOf(type, *std::max_element(head, head + head_size)));
  }
  return scales;
}

}  // namespace

CacheQuantization CacheChoice::Of(CacheTrial trial) const {
  switch (trial) {
    case CacheTrial::kTensor:
      return tensor;
    case CacheTrial::kHeads:
      return heads;
    case CacheTrial::kUnscaled:
      break;
  }
  return {};
}

CacheChoice ChooseCache(const LayerSpec& layer, const LayerRanges& ranges, Dtype type) {
  CacheChoice choice;
  choice.attention_module = layer.attention_module;
  choice.tensor.key_scale = ScaleOf(type, LargestOf(ranges.keys));
  choice.tensor.value_scale = ScaleOf(type, LargestOf(ranges.values));
  choice.tensor.query_scale = ScaleOf(type, LargestOf(ranges.queries));
  const int64_t size = layer.attention.heads.head_size;
  choice.heads.query_scale = choice.tensor.query_scale;
  choice.heads.key_scales = HeadScales(ranges.keys, size, type);
  choice.heads.value_scales = HeadScales(ranges.values, size, type);
  return choice;
}

}  // namespace narrow
