#include "pipeline/layer_quantizer.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/parallel.h"

namespace narrow {
namespace {

// The matrix as codes; counts what saturated.
StoredMatrix QuantizeMatrix(const StoredMatrix& weight, const QuantizationScheme& scheme,
                            float scale, int64_t& saturated) {
  StoredMatrix codes;
  codes.dtype = scheme.dtype;
  codes.rows = weight.rows;
  codes.columns = weight.columns;
  codes.bytes = AlignedBuffer<std::byte>(weight.rows * weight.columns);
  std::vector<int64_t> saturated_rows(static_cast<std::size_t>(weight.rows));
  ParallelFor(weight.rows, [&](int64_t row) {
    const std::span<std::byte> out = codes.bytes.span().subspan(
        static_cast<std::size_t>(row * weight.columns), static_cast<std::size_t>(weight.columns));
    int64_t& count = saturated_rows[static_cast<std::size_t>(row)];
    if (weight.dtype == Dtype::kBF16) {
      const std::span<const std::byte> bytes = weight.RowBytes(row, 1);
      count = scheme.quantize_bfloat16(
          {reinterpret_cast<const Bfloat16*>(bytes.data()), out.size()}, scale, out);
    } else {
      thread_local std::vector<float> values;
      values.resize(out.size());
      ConvertRow(weight.dtype, weight.RowBytes(row, 1), std::span<float>(values));
      count = scheme.quantize(values, scale, out);
    }
  });
  saturated = std::accumulate(saturated_rows.begin(), saturated_rows.end(), int64_t{0});
  return codes;
}

CacheFacts CacheScales(const LayerSpec& spec, const LayerRanges& ranges,
                       const LayerQuantizationOptions& options) {
  CacheFacts facts;
  facts.attention_module = spec.attention_module;
  facts.key_amax = ranges.keys;
  facts.value_amax = ranges.values;
  facts.key_scale = std::max(options.scheme->scale(ranges.keys), options.min_cache_scale);
  facts.value_scale = std::max(options.scheme->scale(ranges.values), options.min_cache_scale);
  return facts;
}

// The amax each linear's weight scale is made from.
std::vector<float> ScaleRanges(const StoredLayer& layer, const std::vector<float>& amax,
                               WeightScales weight_scales) {
  if (weight_scales == WeightScales::kPerMatrix) return amax;
  std::vector<float> shared(amax.size());
  for (std::size_t i = 0; i < amax.size(); ++i) {
    for (std::size_t j = 0; j < amax.size(); ++j) {
      if (layer.linears[i].spec.group == layer.linears[j].spec.group) {
        shared[i] = std::max(shared[i], amax[j]);
      }
    }
  }
  return shared;
}

}  // namespace

LayerFacts QuantizeLayer(StoredLayer& layer, const LayerRanges& ranges,
                         const LayerQuantizationOptions& options) {
  const QuantizationScheme& scheme = *options.scheme;
  std::vector<float> amax;
  for (const StoredLinear& linear : layer.linears) {
    amax.push_back(WeightMaximum(linear.weight, linear.spec.weight()));
  }
  const std::vector<float> scale_ranges = ScaleRanges(layer, amax, options.weight_scales);
  LayerFacts facts;
  for (std::size_t i = 0; i < layer.linears.size(); ++i) {
    StoredLinear& linear = layer.linears[i];
    if (options.excluded.contains(linear.spec.module)) continue;
    LinearFacts fact;
    fact.module = linear.spec.module;
    fact.weight_amax = amax[i];
    fact.weight_scale = scheme.scale(scale_ranges[i]);
    fact.input_amax = ranges.Input(linear.spec.group);
    fact.input_scale = scheme.scale(fact.input_amax);
    fact.elements = linear.weight.rows * linear.weight.columns;
    linear.weight = QuantizeMatrix(linear.weight, scheme, fact.weight_scale, fact.saturated);
    linear.weight_scale = fact.weight_scale;
    linear.input_scale = fact.input_scale;
    facts.linears.push_back(std::move(fact));
  }
  if (options.cache == CacheScheme::kFp8) {
    facts.cache = CacheScales(layer.spec, ranges, options);
    layer.cache = CacheQuantization{facts.cache->key_scale, facts.cache->value_scale};
  }
  return facts;
}

}  // namespace narrow
