#include "pipeline/weight_scales.h"

#include <algorithm>
#include <array>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "kernels/column_maximum.h"
#include "quantization/channel_scaling/grid_errors.h"

namespace narrow {
namespace {

constexpr int64_t kStripColumns = 64;

using PhaseErrors = std::array<double, kGridPhases>;

// What is known of one linear's weights after they were read.
struct Scan {
  explicit Scan(int64_t columns)
      : errors(columns), maxima(static_cast<std::size_t>(columns), 0.0f) {}

  void Add(MatrixView<const float> rows) {
    errors.Add(rows);
    ParallelFor(DivideRoundUp(rows.columns, kStripColumns), [&](int64_t strip) {
      const int64_t first = strip * kStripColumns;
      const int64_t count = std::min(kStripColumns, rows.columns - first);
      IncludeColumnMaxima<float>(rows.ColumnBlock(first, count),
                                 std::span(maxima).subspan(static_cast<std::size_t>(first),
                                                           static_cast<std::size_t>(count)));
    });
  }

  void AddTo(PhaseErrors& sums, std::span<const double> importance) const {
    for (int64_t phase = 0; phase < kGridPhases; ++phase) {
      for (int64_t c = 0; c < errors.channels(); ++c) {
        sums[static_cast<std::size_t>(phase)] +=
            importance[static_cast<std::size_t>(c)] * errors.Error(phase, c);
      }
    }
  }

  GridErrors errors;
  std::vector<float> maxima;
};

float Largest(const std::vector<WeightScale>& scales) {
  return std::max_element(scales.begin(), scales.end(),
                          [](const auto& a, const auto& b) { return a.amax < b.amax; })
      ->amax;
}

}  // namespace

void WeightFactors::Apply(int64_t first_row, MatrixView<float> rows_of_group) const {
  if (columns.empty() && rows.empty()) return;
  ParallelFor(rows_of_group.rows, [&](int64_t r) {
    const std::span<float> row = rows_of_group.RowSpan(r);
    const float row_factor = rows.empty() ? 1.0f : rows[static_cast<std::size_t>(first_row + r)];
    if (columns.empty()) {
      for (float& value : row) value *= row_factor;
    } else {
      for (std::size_t c = 0; c < row.size(); ++c) row[c] *= columns[c] * row_factor;
    }
  });
}

GroupScales RangeScales(const std::vector<LoadedLinear>& linears,
                                     const QuantizationScheme& scheme, WeightScales sharing) {
  std::vector<WeightScale> scales;
  for (const LoadedLinear& linear : linears) scales.push_back({linear.weight_amax, 1.0f});
  const float largest = Largest(scales);
  for (WeightScale& scale : scales) {
    scale.scale = scheme.scale(sharing == WeightScales::kPerMatrix ? scale.amax : largest);
  }
  return {std::move(scales), {}};
}

template <typename T>
GroupScales GridScales(const LoadedLayer<T>& layer, LinearGroup group,
                                    const WeightFactors& factors,
                                    std::span<const double> importance,
                                    const QuantizationScheme& scheme, WeightScales sharing) {
  const std::vector<LoadedLinear>& linears = layer.Linears(group);
  std::vector<Scan> scans;
  for (const LoadedLinear& linear : linears) scans.emplace_back(linear.spec.columns);
  layer.Read(group, [&](int64_t first_row, MatrixView<float> rows) {
    factors.Apply(first_row, rows);
    ForEachLinearAmong(linears, first_row, rows.rows,
                       [&](std::size_t i, int64_t from, int64_t count) {
                         scans[i].Add(rows.RowBlock(from, count));
                       });
  });
  GroupScales result;
  result.column_energy.resize(importance.size());
  std::vector<WeightScale>& scales = result.linears;
  PhaseErrors errors = {};
  for (const Scan& scan : scans) {
    for (std::size_t c = 0; c < importance.size(); ++c) {
      result.column_energy[c] += scan.errors.Energy(static_cast<int64_t>(c));
    }
    scales.push_back({*std::max_element(scan.maxima.begin(), scan.maxima.end()), 1.0f});
    scan.AddTo(errors, importance);
  }
  const int64_t phase = BestPhase([&](int64_t p) { return errors[static_cast<std::size_t>(p)]; });
  const float largest = Largest(scales);
  for (WeightScale& scale : scales) {
    scale.scale =
        scheme.scale_of_phase(sharing == WeightScales::kPerMatrix ? scale.amax : largest, phase);
  }
  return result;
}

template GroupScales GridScales<float>(const LoadedLayer<float>&, LinearGroup,
                                                    const WeightFactors&, std::span<const double>,
                                                    const QuantizationScheme&, WeightScales);
template GroupScales GridScales<Bfloat16>(const LoadedLayer<Bfloat16>&, LinearGroup,
                                                       const WeightFactors&,
                                                       std::span<const double>,
                                                       const QuantizationScheme&, WeightScales);

}  // namespace narrow
