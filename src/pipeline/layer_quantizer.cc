#include "pipeline/layer_quantizer.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "quantization/compensation/factor.h"
#include "quantization/compensation/rounding.h"

namespace narrow {
namespace {

// Index of the linear that a row of the group belongs to.
std::size_t LinearOfRow(const std::vector<LoadedLinear>& linears, int64_t row) {
  std::size_t index = linears.size() - 1;
  while (linears[index].first_row > row) --index;
  return index;
}

std::vector<LinearFacts> GroupFacts(const std::vector<LoadedLinear>& linears, float input_amax,
                                    const LayerQuantizationOptions& options) {
  const QuantizationScheme& scheme = *options.scheme;
  float group_amax = 0.0f;
  for (const LoadedLinear& linear : linears) group_amax = std::max(group_amax, linear.weight_amax);
  std::vector<LinearFacts> facts;
  for (const LoadedLinear& linear : linears) {
    LinearFacts fact;
    fact.module = linear.spec.module;
    fact.weight_amax = linear.weight_amax;
    fact.weight_scale = scheme.scale(
        options.weight_scales == WeightScales::kPerMatrix ? linear.weight_amax : group_amax);
    fact.input_amax = input_amax;
    fact.input_scale = scheme.scale(input_amax);
    fact.elements = linear.spec.rows * linear.spec.columns;
    facts.push_back(std::move(fact));
  }
  return facts;
}

GroupQuantization ScalesOf(const std::vector<LinearFacts>& facts) {
  GroupQuantization quantization;
  quantization.input_scale = facts.front().input_scale;
  for (std::size_t i = 0; i < facts.size(); ++i) {
    quantization.weight_scales[i] = facts[i].weight_scale;
  }
  return quantization;
}

// Rounds rows of one linear to codes and counts what saturated.
using RowsRounding = std::function<void(MatrixView<const float> rows, LinearFacts& facts,
                                        std::span<std::byte> codes)>;

RowsRounding NearestRounding(const QuantizationScheme& scheme) {
  return [&scheme](MatrixView<const float> rows, LinearFacts& facts, std::span<std::byte> codes) {
    std::vector<int64_t> saturated(static_cast<std::size_t>(rows.rows));
    ParallelFor(rows.rows, [&](int64_t row) {
      saturated[static_cast<std::size_t>(row)] =
          scheme.quantize(rows.RowSpan(row), facts.weight_scale,
                          codes.subspan(static_cast<std::size_t>(row * rows.columns),
                                        static_cast<std::size_t>(rows.columns)));
    });
    facts.saturated = std::accumulate(saturated.begin(), saturated.end(), facts.saturated);
  };
}

RowsRounding CompensatedRoundingWith(const CompensationFactor& factor) {
  return [&factor](MatrixView<const float> rows, LinearFacts& facts, std::span<std::byte> codes) {
    const CompensatedRounding done = RoundCompensated(factor, rows, facts.weight_scale, codes);
    facts.saturated += done.saturated;
    facts.output_error += done.error;
    facts.nearest_output_error += done.nearest_error;
  };
}

template <typename T>
std::vector<LinearFacts> QuantizeGroup(LoadedLayer<T>& layer, LinearGroup group, float input_amax,
                                       const LayerQuantizationOptions& options,
                                       const RowsRounding& round, const CodeSink& sink) {
  const std::vector<LoadedLinear>& linears = layer.Linears(group);
  std::vector<LinearFacts> facts = GroupFacts(linears, input_amax, options);
  AlignedBuffer<std::byte> codes;
  layer.Quantize(group, ScalesOf(facts), [&](int64_t first_row, MatrixView<float> rows) {
    if (codes.size() < rows.rows * rows.columns) {
      codes = AlignedBuffer<std::byte>(rows.rows * rows.columns);
    }
    const auto codes_of = [&](int64_t from, int64_t count) {
      return codes.span().subspan(static_cast<std::size_t>(from * rows.columns),
                                  static_cast<std::size_t>(count * rows.columns));
    };
    for (std::size_t i = 0; i < linears.size(); ++i) {
      const int64_t from = std::max<int64_t>(0, linears[i].first_row - first_row);
      const int64_t to =
          std::min(rows.rows, linears[i].first_row + linears[i].spec.rows - first_row);
      if (from >= to) continue;
      round(rows.RowBlock(from, to - from), facts[i], codes_of(from, to - from));
      if (sink) {
        sink(linears[i].spec, first_row + from - linears[i].first_row, codes_of(from, to - from));
      }
    }
    ParallelFor(rows.rows,
                [&](int64_t row) { options.scheme->decode(codes_of(row, 1), rows.RowSpan(row)); });
  });
  return facts;
}

template <typename T>
CacheFacts QuantizeCache(LoadedLayer<T>& layer, const LayerRanges& ranges,
                         const LayerQuantizationOptions& options) {
  CacheFacts cache;
  cache.attention_module = layer.spec().attention_module;
  cache.key_amax = ranges.keys;
  cache.value_amax = ranges.values;
  cache.key_scale = std::max(options.scheme->scale(ranges.keys), options.min_cache_scale);
  cache.value_scale = std::max(options.scheme->scale(ranges.values), options.min_cache_scale);
  layer.SetCache({cache.key_scale, cache.value_scale});
  return cache;
}

// A code for each of the 256 codes.
using CodeTable = std::array<uint8_t, 256>;

CodeTable DeployedCodes(float scale, float group_scale) {
  CodeTable table;
  for (std::size_t code = 0; code < table.size(); ++code) {
    table[code] = DeployedCode({static_cast<uint8_t>(code)}, scale, group_scale).bits;
  }
  return table;
}

}  // namespace

template <typename T>
LayerFacts QuantizeLayer(LoadedLayer<T>& layer, const LayerRanges& ranges, LayerHessians hessians,
                         const LayerQuantizationOptions& options, const CodeSink& sink,
                         const StepSink& step) {
  LayerFacts facts;
  for (const LinearGroup group : kLinearGroups) {
    // In the order of the forward step: what comes after q/k/v is not quantized yet.
    if (group == LinearGroup::kAttentionOutput && options.cache == CacheScheme::kFp8) {
      facts.cache = QuantizeCache(layer, ranges, options);
      if (step) step(std::nullopt);
    }
    if (options.excluded.contains(layer.Linears(group).front().spec.module)) continue;
    std::optional<HessianAccumulator>& hessian = hessians[static_cast<std::size_t>(group)];
    std::optional<CompensationFactor> factor;
    if (hessian) factor.emplace(*std::exchange(hessian, std::nullopt));
    const RowsRounding round =
        factor ? CompensatedRoundingWith(*factor) : NearestRounding(*options.scheme);
    for (LinearFacts& fact :
         QuantizeGroup(layer, group, ranges.Input(group), options, round, sink)) {
      facts.linears.push_back(std::move(fact));
    }
    if (step) step(group);
  }
  return facts;
}

Float8E4M3 DeployedCode(Float8E4M3 code, float scale, float group_scale) {
  const float half_scale = ToFloat(ToFloat16(scale));
  const float value = ToFloat(ToFloat16(ToFloat(code) * half_scale));
  return ToFloat8E4M3(value / group_scale);
}

template <typename T>
void DeployLayer(LoadedLayer<T>& layer, const QuantizationScheme& scheme) {
  for (const LinearGroup group : kLinearGroups) {
    const std::optional<GroupQuantization>& current = layer.runnable().Quantization(group);
    if (!current) continue;
    const std::vector<LoadedLinear>& linears = layer.Linears(group);
    GroupQuantization deployed = *current;
    const float group_scale = *std::max_element(
        current->weight_scales.begin(),
        current->weight_scales.begin() + static_cast<std::ptrdiff_t>(linears.size()));
    std::vector<CodeTable> tables;
    bool changes = false;
    for (std::size_t i = 0; i < linears.size(); ++i) {
      tables.push_back(DeployedCodes(current->weight_scales[i], group_scale));
      deployed.weight_scales[i] = group_scale;
      for (std::size_t code = 0; code < 256; ++code) changes |= tables[i][code] != code;
    }
    if (!changes) continue;
    layer.Requantize(group, deployed, [&](int64_t first_row, MatrixView<float> rows) {
      ParallelFor(rows.rows, [&](int64_t row) {
        thread_local std::vector<std::byte> codes;
        codes.resize(static_cast<std::size_t>(rows.columns));
        scheme.quantize(rows.RowSpan(row), 1.0f, codes);
        const CodeTable& table = tables[LinearOfRow(linears, first_row + row)];
        for (std::byte& code : codes) code = std::byte{table[std::to_integer<std::size_t>(code)]};
        scheme.decode(codes, rows.RowSpan(row));
      });
    });
  }
}

template LayerFacts QuantizeLayer<float>(LoadedLayer<float>&, const LayerRanges&, LayerHessians,
                                         const LayerQuantizationOptions&, const CodeSink&,
                                         const StepSink&);
template LayerFacts QuantizeLayer<Bfloat16>(LoadedLayer<Bfloat16>&, const LayerRanges&,
                                            LayerHessians, const LayerQuantizationOptions&,
                                            const CodeSink&, const StepSink&);
template void DeployLayer<float>(LoadedLayer<float>&, const QuantizationScheme&);
template void DeployLayer<Bfloat16>(LoadedLayer<Bfloat16>&, const QuantizationScheme&);

}  // namespace narrow
