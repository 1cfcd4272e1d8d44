#include "stream/layer_progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "device/compensation/operations.h"
#include "model/experts.h"

namespace narrow {
namespace {

// Rates in the proportions that `narrow plan` measures on two cores with AVX512_BF16, for SmolLM2
// and for Llama 3.1 8B and 405B. Those of f32 products are half of bf16's; the others do not depend
// on the operands.
constexpr double kLayerRate = 0.93e12;
constexpr double kStatisticsRate = 0.7e12;
constexpr double kFactoringRate = 0.1e12;
constexpr double kRoundingRate = 0.4e12;
constexpr double kPackingRate = 2e9;  // bytes
constexpr double kRewritingRate = 2.4e9;

double AsDouble(int64_t value) { return static_cast<double>(value); }

}  // namespace

LayerCosts::LayerCosts(const LayerSpec& spec, ComputeType compute,
                       const LayerQuantizationOptions* quantization)
    : attention_(spec.attention),
      linear_flops_(LinearFlopsPerToken(spec)),
      slower_(compute == ComputeType::kBfloat16 ? 1 : 2) {
  loading_ = AsDouble(PackedLayerBytes(spec, compute)) / kPackingRate;
  if (spec.experts) {
    const double bytes =
        AsDouble(spec.experts->count * PackedLayerBytes(ExpertLayer(spec, 0), compute));
    experts_ = bytes / kPackingRate + (quantization != nullptr ? bytes / kRewritingRate : 0);
    experts_of_token_ = slower_ * AsDouble(ExpertFlopsPerToken(spec)) / kLayerRate;
  }
  if (quantization == nullptr) return;
  probes_ = 1 + (quantization->cache == CacheScheme::kFp8 ? 1 : 0);
  for (const GroupSpec& group : GroupsOf(spec)) {
    if (!quantization->excluded.contains(group.linears.front().module)) {
      AddGroup(group, *quantization);
    }
  }
}

void LayerCosts::AddGroup(const GroupSpec& group, const LayerQuantizationOptions& quantization) {
  ++probes_;
  const int64_t columns = group.columns;
  const double row_rewriting = AsDouble(columns) * 2 * slower_ / kRewritingRate;
  const double rows = AsDouble(group.rows);
  rounded_rows_[Index(group.id)] = group.rows;
  factoring_[Index(group.id)] = rows * row_rewriting;  // the weights are measured
  rounding_row_[Index(group.id)] = row_rewriting;
  if (group.linears.size() > 1 && quantization.weight_scales == WeightScales::kPerMatrix) {
    deploying_ += rows * row_rewriting;
  }
  if (quantization.rounding != RoundingAlgorithm::kCompensated) return;
  const int64_t block = quantization.hessian_block_columns;
  statistics_ += slower_ * HessianFlopsPerToken(columns, block) / kStatisticsRate;
  factoring_[Index(group.id)] += FactorFlops(columns, block) / kFactoringRate;
  rounding_row_[Index(group.id)] += RoundingFlopsPerRow(columns, block) /
                                    (kRoundingRate * RoundingOccupancy(columns, ThreadCount()));
}

double LayerCosts::Text(LayerWork work, const Batch& batch) const {
  double flops = AsDouble(batch.rows * linear_flops_);
  for (const Sequence& sequence : batch.sequences) {
    flops += AsDouble(AttentionFlops(attention_, sequence.count));
  }
  return slower_ * flops / kLayerRate +
         (work == LayerWork::kCalibrating ? AsDouble(batch.rows) * statistics_ : 0);
}

double LayerProgress::SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

LayerProgress::LayerProgress(ProgressSink& sink, Clock clock)
    : sink_(sink), clock_(std::move(clock)) {}

void LayerProgress::Begin(std::string_view name, int64_t layers, int64_t finished) {
  sink_.BeginPhase(name, layers * kPartsPerLayer, kLayerParts);
  if (finished > 0) sink_.Skip(finished * kPartsPerLayer);
  last_ = clock_();
}

void LayerProgress::BeginLayer(const LayerCosts& costs, const std::vector<Text>& texts) {
  costs_ = costs;
  LayerSeconds planned{};
  const auto add = [&](LayerWork work, double seconds) {
    planned[static_cast<std::size_t>(work)] += seconds;
  };
  add(LayerWork::kLoading, AsDouble(costs.Loads()) * costs.Loading());
  for (const Text& text : texts) {
    const double times = text.work == LayerWork::kProbing ? AsDouble(costs.Probes()) : 1;
    for (const Batch& batch : *text.batches) add(text.work, times * costs.Text(text.work, batch));
  }
  for (std::size_t index = 0; index < kLinearGroupCount; ++index) {
    const auto group = static_cast<LinearGroup>(index);
    add(LayerWork::kFactoring, costs.Factoring(group));
    add(LayerWork::kRounding, costs.Rounding(group, costs.RoundedRows(group)));
  }
  add(LayerWork::kDeploying, costs.Deploying());
  int64_t tokens = 0;
  for (const Text& text : texts) {
    for (const Batch& batch : *text.batches) tokens += batch.rows;
  }
  add(LayerWork::kExperts, expert_seconds_ = costs.Experts(tokens));
  layer_seconds_ = layer_done_ = 0;
  reported_ = 0;
  for (std::size_t work = 0; work < kLayerWorkCount; ++work) {
    pace_[work] = Pace(work);
    layer_seconds_ += planned[work] * pace_[work];
  }
}

// As measured; of what has not been met yet, as all the rest.
double LayerProgress::Pace(std::size_t work) const {
  if (planned_[work] > 0) return measured_[work] / planned_[work];
  const double planned = std::accumulate(planned_.begin(), planned_.end(), 0.0);
  const double measured = std::accumulate(measured_.begin(), measured_.end(), 0.0);
  return planned > 0 ? measured / planned : 1;
}

void LayerProgress::Add(LayerWork work, double planned) {
  const double now = clock_();
  const auto index = static_cast<std::size_t>(work);
  planned_[index] += planned;
  measured_[index] += now - last_;
  last_ = now;
  layer_done_ += planned * pace_[index];
  if (layer_seconds_ > 0) Report(std::min(1.0, layer_done_ / layer_seconds_));
}

void LayerProgress::Report(double share) {
  const int64_t parts = std::llround(share * AsDouble(kPartsPerLayer));
  sink_.Advance(std::max<int64_t>(0, parts - reported_));
  reported_ = std::max(reported_, parts);
}

void LayerProgress::EndLayer() { Report(1.0); }

}  // namespace narrow
