#include "pipeline/layer_quantizer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <vector>

#include "base/parallel.h"

namespace narrow {
namespace {

// Index of the linear that a row of the group belongs to.
std::size_t LinearOfRow(const std::vector<LoadedLinear>& linears, int64_t row) {
  std::size_t index = linears.size() - 1;
  while (linears[index].first_row > row) --index;
  return index;
}

// Hands the codes of rows [first_row, first_row + rows) of a group to the sink, linear by linear.
void Emit(const std::vector<LoadedLinear>& linears, int64_t first_row, int64_t rows,
          std::span<const std::byte> codes, const CodeSink& sink) {
  if (!sink) return;
  const int64_t columns = static_cast<int64_t>(codes.size()) / rows;
  for (const LoadedLinear& linear : linears) {
    const int64_t from = std::max(first_row, linear.first_row);
    const int64_t to = std::min(first_row + rows, linear.first_row + linear.spec.rows);
    if (from >= to) continue;
    sink(linear.spec, from - linear.first_row,
         codes.subspan(static_cast<std::size_t>((from - first_row) * columns),
                       static_cast<std::size_t>((to - from) * columns)));
  }
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

template <typename T>
std::vector<LinearFacts> QuantizeGroup(LoadedLayer<T>& layer, LinearGroup group, float input_amax,
                                       const LayerQuantizationOptions& options,
                                       const CodeSink& sink) {
  const QuantizationScheme& scheme = *options.scheme;
  const std::vector<LoadedLinear>& linears = layer.Linears(group);
  std::vector<LinearFacts> facts = GroupFacts(linears, input_amax, options);
  AlignedBuffer<std::byte> codes;
  layer.Quantize(group, ScalesOf(facts), [&](int64_t first_row, MatrixView<float> rows) {
    if (codes.size() < rows.rows * rows.columns) {
      codes = AlignedBuffer<std::byte>(rows.rows * rows.columns);
    }
    std::vector<int64_t> saturated(static_cast<std::size_t>(rows.rows));
    ParallelFor(rows.rows, [&](int64_t row) {
      const std::span<std::byte> out(codes.data() + row * rows.columns,
                                     static_cast<std::size_t>(rows.columns));
      const float scale = facts[LinearOfRow(linears, first_row + row)].weight_scale;
      saturated[static_cast<std::size_t>(row)] = scheme.quantize(rows.RowSpan(row), scale, out);
      scheme.decode(out, rows.RowSpan(row));
    });
    for (int64_t row = 0; row < rows.rows; ++row) {
      facts[LinearOfRow(linears, first_row + row)].saturated +=
          saturated[static_cast<std::size_t>(row)];
    }
    Emit(linears, first_row, rows.rows,
         codes.span().first(static_cast<std::size_t>(rows.rows * rows.columns)), sink);
  });
  return facts;
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
LayerFacts QuantizeLayer(LoadedLayer<T>& layer, const LayerRanges& ranges,
                         const LayerQuantizationOptions& options, const CodeSink& sink) {
  LayerFacts facts;
  for (const LinearGroup group : kLinearGroups) {
    if (options.excluded.contains(layer.Linears(group).front().spec.module)) continue;
    for (LinearFacts& fact : QuantizeGroup(layer, group, ranges.Input(group), options, sink)) {
      facts.linears.push_back(std::move(fact));
    }
  }
  if (options.cache == CacheScheme::kFp8) {
    CacheFacts& cache = facts.cache.emplace();
    cache.attention_module = layer.spec().attention_module;
    cache.key_amax = ranges.keys;
    cache.value_amax = ranges.values;
    cache.key_scale = std::max(options.scheme->scale(ranges.keys), options.min_cache_scale);
    cache.value_scale = std::max(options.scheme->scale(ranges.values), options.min_cache_scale);
    layer.SetCache({cache.key_scale, cache.value_scale});
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

template LayerFacts QuantizeLayer<float>(LoadedLayer<float>&, const LayerRanges&,
                                         const LayerQuantizationOptions&, const CodeSink&);
template LayerFacts QuantizeLayer<Bfloat16>(LoadedLayer<Bfloat16>&, const LayerRanges&,
                                            const LayerQuantizationOptions&, const CodeSink&);
template void DeployLayer<float>(LoadedLayer<float>&, const QuantizationScheme&);
template void DeployLayer<Bfloat16>(LoadedLayer<Bfloat16>&, const QuantizationScheme&);

}  // namespace narrow
