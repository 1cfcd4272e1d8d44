#include "quantization/weight_scales.h"

#include <algorithm>
#include <limits>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "kernels/column_maximum.h"

namespace narrow {
namespace {

constexpr int64_t kStripColumns = 64;  // one thread's share: whole vectors on every target

// energy[c] += sum over rows of rows[r][c]^2; a sum in f32 for the rows of one call.
void AddColumnEnergy(MatrixView<const float> rows, std::span<double> energy) {
  std::vector<float> sums(energy.size(), 0.0f);
  for (int64_t r = 0; r < rows.rows; ++r) {
    const float* row = rows.Row(r);
    for (std::size_t c = 0; c < sums.size(); ++c) sums[c] += row[c] * row[c];
  }
  for (std::size_t c = 0; c < sums.size(); ++c) energy[c] += sums[c];
}

}  // namespace

GroupWeights MeasureWeights(const LoadedLayer& layer, LinearGroup group,
                            const RowsRewriter& change) {
  const std::vector<LoadedLinear>& linears = layer.Linears(group);
  const int64_t columns = linears.front().spec.columns;
  const auto width = static_cast<std::size_t>(columns);
  std::vector<std::vector<float>> maxima(linears.size(), std::vector<float>(width));
  GroupWeights measured;
  measured.column_energy.resize(width);
  layer.Read(group, [&](int64_t first_row, MatrixView<float> rows) {
    change(first_row, rows);
    ParallelFor(DivideRoundUp(columns, kStripColumns), [&](int64_t strip) {
      const int64_t first = strip * kStripColumns;
      const int64_t count = std::min(kStripColumns, columns - first);
      const auto part = [&](auto& values) {
        return std::span(values).subspan(static_cast<std::size_t>(first),
                                         static_cast<std::size_t>(count));
      };
      const MatrixView<float> all = rows.ColumnBlock(first, count);
      ForEachLinearAmong(
          linears, first_row, rows.rows, [&](std::size_t i, int64_t from, int64_t linear_rows) {
            IncludeColumnMaxima<float>(all.RowBlock(from, linear_rows), part(maxima[i]));
          });
      AddColumnEnergy(all, part(measured.column_energy));
    });
  });
  for (const std::vector<float>& of_linear : maxima) {
    measured.amax.push_back(*std::max_element(of_linear.begin(), of_linear.end()));
  }
  return measured;
}

std::vector<float> ChooseWeightScales(const std::vector<float>& amax,
                                      const QuantizationScheme& scheme, WeightScales sharing,
                                      OwnScales own) {
  const float largest = *std::max_element(amax.begin(), amax.end());
  std::vector<float> scales(amax.size(), scheme.scale(largest));
  if (sharing == WeightScales::kPerFusedGroup) return scales;
  for (std::size_t i = 0; i < amax.size(); ++i) {
    if (own == OwnScales::kOfRange) {
      scales[i] = scheme.scale(amax[i]);
      continue;
    }
    if (amax[i] == 0.0f) continue;  // any scale represents zeros
    for (float covered = largest;
         covered * 0.5f >= amax[i] && scales[i] * 0.5f >= std::numeric_limits<float>::min();
         covered *= 0.5f) {
      scales[i] *= 0.5f;
    }
  }
  return scales;
}

}  // namespace narrow
