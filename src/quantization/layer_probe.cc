#include "quantization/layer_probe.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/parallel.h"
#include "base/ranks.h"

namespace narrow {

double LayerErrors::Sum() const {
  return std::accumulate(groups.begin(), groups.end(), 0.0) + cache;
}

double StageErrors::Sum() const { return std::accumulate(stages.begin(), stages.end(), 0.0); }

TokenStream ProbeOf(const TokenStream& stream) {
  return SelectSequences(stream, SpreadSequences(stream, kProbeSequences), kProbeTokens);
}

int64_t ProbeBytes(int64_t rows, int64_t hidden) {
  constexpr int64_t kOutputs = 3;
  return kOutputs * rows * hidden * static_cast<int64_t>(sizeof(float));
}

LayerProbe::LayerProbe(const DecoderLayer& layer, const RopeTables& rope,
                       std::span<const Sequence> sequences, MatrixView<const float> rows,
                       BatchWorkspace& workspace)
    : layer_(layer),
      rope_(rope),
      sequences_(sequences),
      rows_(rows),
      workspace_(workspace),
      original_(rows.rows * rows.columns),
      before_(rows.rows * rows.columns),
      now_(rows.rows * rows.columns) {
  Forward(layer_, rope_, original_);
  std::copy_n(original_.data(), original_.size(), before_.data());
}

void LayerProbe::Forward(const DecoderLayer& layer, const RopeTables& rope,
                         AlignedBuffer<float>& output) {
  if (rows_.rows == 0) return;
  const MatrixView<float> states(output.data(), rows_.rows, rows_.columns);
  for (int64_t row = 0; row < rows_.rows; ++row) {
    std::copy_n(rows_.Row(row), rows_.columns, states.Row(row));
  }
  ForwardLayer(layer, rope, sequences_, states, workspace_, nullptr);
}

void LayerProbe::Step(std::optional<LinearGroup> part) { Take(part, layer_, rope_); }

void LayerProbe::StepTo(const DecoderLayer& layer, const RopeTables& rope) {
  Take(std::nullopt, layer, rope);
}

void LayerProbe::Take(std::optional<LinearGroup> part, const DecoderLayer& layer,
                      const RopeTables& rope) {
  Forward(layer, rope, now_);
  steps_.emplace_back(part, RelativeErrors(now_, before_));
  std::swap(now_, before_);
}

std::vector<double> LayerProbe::MeanErrors() const {
  std::vector<double> own;  // [steps and the whole, rows]
  for (const auto& [part, ratios] : steps_) own.insert(own.end(), ratios.begin(), ratios.end());
  const std::vector<double> all = RelativeErrors(before_, original_);
  own.insert(own.end(), all.begin(), all.end());
  // In the order of the rows, as one rank would.
  std::vector<double> means(steps_.size() + 1);
  int64_t rows = 0;
  JobRanks().InTurn(std::as_bytes(std::span(own)), [&](int, std::span<const std::byte> bytes) {
    const auto* next = reinterpret_cast<const double*>(bytes.data());
    const auto count = static_cast<int64_t>(bytes.size() / sizeof(double) / means.size());
    for (double& sum : means) {
      sum = std::accumulate(next, next + count, sum);
      next += count;
    }
    rows += count;
  });
  for (double& mean : means) mean /= static_cast<double>(rows);
  return means;
}

StageErrors LayerProbe::Stages() const {
  std::vector<double> means = MeanErrors();
  const double all = means.back();
  means.pop_back();
  return {std::move(means), all};
}

LayerErrors LayerProbe::Errors() const {
  const std::vector<double> means = MeanErrors();
  LayerErrors errors;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const std::optional<LinearGroup>& part = steps_[i].first;
    (part ? errors.groups[static_cast<std::size_t>(*part)] : errors.cache) = means[i];
  }
  errors.all = means.back();
  return errors;
}

std::vector<double> LayerProbe::RelativeErrors(const AlignedBuffer<float>& a,
                                               const AlignedBuffer<float>& b) const {
  std::vector<double> ratios(static_cast<std::size_t>(rows_.rows));
  ParallelFor(rows_.rows, [&](int64_t row) {
    double change = 0.0, size = 0.0;
    for (int64_t i = row * rows_.columns; i < (row + 1) * rows_.columns; ++i) {
      const double value = original_.data()[i];
      const double difference = static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]);
      change += difference * difference;
      size += value * value;
    }
    // A token without any output has no relative error.
    ratios[static_cast<std::size_t>(row)] = size > 0.0 ? change / size : 0.0;
  });
  return ratios;
}

}  // namespace narrow
