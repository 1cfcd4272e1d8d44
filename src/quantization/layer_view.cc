#include "quantization/layer_view.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/parallel.h"

namespace narrow {
namespace {

// A code for each of the 256 codes.
using CodeTable = std::array<uint8_t, 256>;

CodeTable DeployedCodes(float scale, float group_scale) {
  CodeTable table;
  for (std::size_t code = 0; code < table.size(); ++code) {
    table[code] = DeployedCode({static_cast<uint8_t>(code)}, scale, group_scale).bits;
  }
  return table;
}

bool Changes(const CodeTable& table) {
  for (std::size_t code = 0; code < table.size(); ++code) {
    if (table[code] != code) return true;
  }
  return false;
}

// Index of the linear that a row of the group belongs to.
std::size_t LinearOfRow(const std::vector<LoadedLinear>& linears, int64_t row) {
  std::size_t index = linears.size() - 1;
  while (linears[index].first_row > row) --index;
  return index;
}

void Deploy(LoadedLayer& layer, LinearGroup group, const LinearScales& stored) {
  const float group_scale = *std::ranges::max_element(stored.weights);
  std::vector<CodeTable> tables;
  for (const float scale : stored.weights) tables.push_back(DeployedCodes(scale, group_scale));
  if (std::ranges::none_of(tables, Changes)) return;
  const LinearScales scales = {stored.input, std::vector<float>(tables.size(), group_scale)};
  const std::vector<LoadedLinear>& linears = layer.Linears(group);
  layer.Requantize(group, scales, [&](int64_t first_row, MatrixView<float> rows) {
    ParallelFor(rows.rows, [&](int64_t row) {
      thread_local std::vector<Float8E4M3> codes;
      codes.resize(static_cast<std::size_t>(rows.columns));
      QuantizeFloat8(rows.RowSpan(row), 1.0f, codes);
      const CodeTable& table = tables[LinearOfRow(linears, first_row + row)];
      for (Float8E4M3& code : codes) code.bits = table[code.bits];
      DecodeFloat8(codes, rows.RowSpan(row));
    });
  });
}

// Of fused linears in two levels of scales, the loader takes the largest divisor for all, and
// leaves codes and scales as they are.
void ShareGlobalScale(LoadedLayer& layer, LinearGroup group, const LinearScales& stored) {
  const auto [least, largest] = std::ranges::minmax(stored.weights);
  if (least == largest) return;
  layer.Rescale(group, {stored.input, std::vector<float>(stored.weights.size(), least)});
}

// The group is E4M3 codes with a scale for each linear: as this program quantizes it, with static
// inputs, or as the checkpoint has it, whatever becomes of its inputs.
bool HasFloat8Tensors(const LoadedLayer& layer, LinearGroup group, const LinearScales& scales) {
  return scales.weights.size() == layer.Linears(group).size() &&
         (scales.input.scheme == StaticFloat8Input(1.0f).scheme ||
          layer.StoredAsFloat8Tensors(group));
}

}  // namespace

Float8E4M3 DeployedCode(Float8E4M3 code, float scale, float group_scale) {
  const float half_scale = ToFloat(ToFloat16(scale));
  const float value = ToFloat(ToFloat16(ToFloat(code) * half_scale));
  return ToFloat8E4M3(value / group_scale);
}

void Become(LoadedLayer& layer, const LayerView& view) {
  const bool deployed = layer.requantized();
  NARROW_CHECK(!deployed || view.weights == LayerView::Weights::kDeployed);
  if (!deployed && view.weights == LayerView::Weights::kDeployed) {
    for (const GroupSpec& group : GroupsOf(layer.spec())) {
      const std::optional<LinearScales> stored = layer.runnable().Linear(group.id).scales();
      if (!stored) continue;
      if (HasFloat8Tensors(layer, group.id, *stored)) Deploy(layer, group.id, *stored);
      if (layer.StoredWithDivisors(group.id)) ShareGlobalScale(layer, group.id, *stored);
    }
  }
  layer.Run(view.inputs, view.cache, view.attention);
}

}  // namespace narrow
