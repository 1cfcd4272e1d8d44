#include "stream/expert_stages.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/phase_timer.h"
#include "base/ranks.h"
#include "quantization/calibration.h"
#include "quantization/layer_view.h"
#include "stream/networks.h"

namespace narrow {
namespace {

// Fewer tokens than this share of a product's inputs say too little of how they go together: an
// expert that saw no more is rounded to nearest.
constexpr int64_t kTokensPerColumn = 4;

void Include(const std::vector<float>& maxima, std::vector<float>& all) {
  all.resize(maxima.size(), 0.0f);
  std::ranges::transform(maxima, all, all.begin(), [](float a, float b) { return std::max(a, b); });
}

// Of every rank together.
int64_t SumOverRanks(int64_t own) {
  int64_t sum = 0;
  JobRanks().InTurn(std::as_bytes(std::span(&own, 1)), [&](int, std::span<const std::byte> bytes) {
    int64_t shown = 0;
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(&shown, 1)).begin());
    sum += shown;
  });
  return sum;
}

// The experts that rows of a batch chose.
std::span<const int32_t> ChosenIn(const PassStream& stream, const Batch& batch, int64_t per_token) {
  return std::span(stream.experts)
      .subspan(static_cast<std::size_t>(batch.first_row * per_token),
               static_cast<std::size_t>(batch.rows * per_token));
}

class ExpertStages {
 public:
  ExpertStages(const PassRequest& request, const LayerSpec& layer, std::list<PassStream>& streams,
               const ExpertStagesCalls& calls)
      : request_(request),
        layer_(layer),
        block_(*layer.experts),
        streams_(streams),
        calls_(calls),
        flops_per_row_(LinearFlopsPerToken(ExpertLayer(layer, 0))),
        needs_all_ranges_(
            NeedsRangesOfAll(layer, request.quantization ? &*request.quantization : nullptr)) {
    result_.facts.module = block_.module;
    result_.facts.per_token = block_.per_token;
  }

  ExpertStagesResult Run() {
    const LayerQuantizationOptions* options = quantizing() ? &*request_.quantization : nullptr;
    const int64_t together =
        ExpertsTogether(layer_, request_.compute, options, request_.plan.expert_bytes);
    const bool judged = request_.judged.has_value();
    twice_ = together < block_.count && needs_all_ranges_;
    std::vector<LoadedLayer> unit;
    const auto load = [&] {
      unit.clear();  // before the next is there
      unit = calls_.load();
    };
    for (int64_t first = 0; first < block_.count; first += together) {
      load();
      std::vector<LayerStatistics> statistics = RunOriginal(unit, first);
      if (!Compares(request_)) RunViews(unit, first);
      Report(std::ssize(unit), Compares(request_) ? 0.5 : 1.0);
      if (quantizing() && !twice_) RunQuantized(unit, first, std::move(statistics));
    }
    for (int64_t first = 0; (twice_ || judged) && first < block_.count; first += together) {
      load();
      if (judged) {
        RunViews(unit, first);
        Report(std::ssize(unit), 0.5);
      } else {
        RunQuantized(unit, first, SumStatistics(unit, first));
      }
    }
    return std::move(result_);
  }

 private:
  bool quantizing() const { return request_.quantization.has_value(); }
  void Report(int64_t experts, double part) {
    calls_.done(part * static_cast<double>(experts) / static_cast<double>(block_.count));
  }

  using Observers = std::vector<std::unique_ptr<LayerCalibration>>;

  // Takes a stream through the experts of a unit; `observers`: one for each of them, or none.
  // Returns the operations that took, of all ranks together.
  enum class Output { kAdded, kNone };
  int64_t Forward(const std::vector<LoadedLayer>& unit, int64_t first, PassStream& stream,
                  const Observers& observers, Output output) {
    int64_t rows = 0;
    for (const Part& part : PartsOf(stream)) {  // every rank has one in a round
      if (part.rank != JobRanks().rank()) continue;
      calls_.keep_going();
      rows += ForwardBatch(unit, first, stream, part.batch, observers, output);
    }
    stream.inputs->Release();
    stream.hidden.Release();
    return SumOverRanks(rows) * flops_per_row_;
  }

  // Few rows of a batch choose one expert: where nothing has to be read and no round to be kept, it
  // takes along those of more.
  std::vector<Part> PartsOf(const PassStream& stream) const {
    const bool apart = request_.plan.hidden_states == Placement::kFile || JobRanks().count() > 1;
    if (apart) return stream.parts;
    std::vector<Part> merged;
    for (const Part& part : stream.parts) {
      if (merged.empty() || merged.back().batch.rows + part.batch.rows > kExpertBatchRows) {
        merged.push_back(part);
      } else {
        merged.back().batch.rows += part.batch.rows;
      }
    }
    return merged;
  }

  int64_t ForwardBatch(const std::vector<LoadedLayer>& unit, int64_t first, PassStream& stream,
                       const Batch& batch, const Observers& observers, Output output) {
    const bool adds = output == Output::kAdded && batch.rows > 0;
    const RoutedRows routed = stream.Routed(
        batch, batch.rows > 0 ? stream.inputs->Take(batch) : MatrixView<float>(), block_.per_token);
    const MatrixView<float> hidden = adds ? stream.hidden.Take(batch) : MatrixView<float>();
    const bool all = !observers.empty() && request_.calibrate_all_experts;
    int64_t rows = 0;
    for (std::size_t i = 0; i < unit.size(); ++i) {
      const auto expert = static_cast<int32_t>(first + static_cast<int64_t>(i));
      const ExpertRows chosen =
          all ? AllRows(routed, batch.rows, expert) : RowsOfExpert(routed, batch.rows, expert);
      const int64_t count = std::ssize(chosen.rows);
      LayerCalibration* const observer = observers.empty() ? nullptr : observers[i].get();
      if (observer != nullptr) observer->BeginBatch(request_.compute, 0, count);
      ForwardExpert(unit[i].runnable(), block_.routing.weighed, routed, chosen, hidden, observer);
      if (observer != nullptr) observer->EndRound();
      if (observer != nullptr) observer->ReleaseBatch();  // experts come one after the other
      rows += count;
    }
    if (!adds) return rows;
    if (!AreFinite(hidden)) FailStates(layer_, stream.name);
    stream.hidden.Put(batch);
    return rows;
  }

  // Ranges and, where the unit is in memory but once, all that quantizing it takes.
  std::vector<LayerStatistics> Calibrate(const std::vector<LoadedLayer>& unit, int64_t first,
                                         PassStream& stream) {
    const PhaseTimer timer(result_.calibration_seconds);
    Observers observers;
    for (const LoadedLayer& expert : unit) {
      observers.emplace_back(quantizing() && !twice_ ? new LayerCalibration(MakeCalibration(
                                                           expert.spec(), *request_.quantization))
                                                     : new LayerCalibration(expert.spec(), {}, {}));
    }
    result_.calibration_flops += Forward(unit, first, stream, observers, Output::kAdded);
    CountTokens(unit, first, stream);
    std::vector<LayerStatistics> statistics = StatisticsOf(observers, unit, first);
    for (const LayerStatistics& expert : statistics) {
      for (const LinearGroup group : {LinearGroup::kGateUp, LinearGroup::kDown}) {
        Include(expert.ranges.Input(group), ranges_.inputs[static_cast<std::size_t>(group)]);
      }
    }
    return statistics;
  }

  std::vector<LayerStatistics> StatisticsOf(const Observers& observers,
                                            const std::vector<LoadedLayer>& unit, int64_t first) {
    std::vector<LayerStatistics> statistics;
    for (std::size_t i = 0; i < unit.size(); ++i) {
      statistics.push_back(observers[i]->Take(unit[i].spec()));
      DropThinStatistics(unit[i].spec(), first + static_cast<int64_t>(i), statistics.back());
    }
    return statistics;
  }

  std::vector<LayerStatistics> RunOriginal(const std::vector<LoadedLayer>& unit, int64_t first) {
    std::vector<LayerStatistics> statistics;
    for (PassStream& stream : streams_) {
      if (stream.use == Use::kCalibration) {
        statistics = Calibrate(unit, first, stream);
      } else if (stream.evaluates() && !stream.network->view) {
        const PhaseTimer timer(result_.evaluation_seconds);
        result_.evaluation_flops += Forward(unit, first, stream, {}, Output::kAdded);
      }
    }
    return statistics;
  }

  void CountTokens(const std::vector<LoadedLayer>& unit, int64_t first, const PassStream& stream) {
    result_.facts.calibration_tokens = stream.tokens->size();
    for (int64_t e = first; e < first + std::ssize(unit); ++e) {
      int64_t tokens = 0;
      for (const Batch& batch : stream.batches) {
        tokens +=
            std::ranges::count(ChosenIn(stream, batch, block_.per_token), static_cast<int32_t>(e));
      }
      result_.facts.tokens.push_back(SumOverRanks(tokens));
    }
  }

  void RunQuantized(std::vector<LoadedLayer>& unit, int64_t first,
                    std::vector<LayerStatistics> statistics) {
    if (needs_all_ranges_) {
      for (LayerStatistics& expert : statistics) expert.ranges = ranges_;
    }
    QuantizeUnit(unit, std::move(statistics));
    RunViews(unit, first);
    Report(std::ssize(unit), 0.5);
  }

  void RunViews(std::vector<LoadedLayer>& unit, int64_t first) {
    for (PassStream& stream : streams_) {
      if (!stream.evaluates() || !stream.network->view) continue;
      const PhaseTimer timer(result_.evaluation_seconds);
      for (LoadedLayer& expert : unit) Become(expert, *stream.network->view);
      result_.evaluation_flops += Forward(unit, first, stream, {}, Output::kAdded);
    }
  }

  void QuantizeUnit(std::vector<LoadedLayer>& unit, std::vector<LayerStatistics> statistics) {
    const PhaseTimer timer(result_.quantization_seconds);
    const CodeSink codes = [this](const LinearSpec& linear, int64_t first_row,
                                  std::span<const std::byte> rows) {
      if (request_.output != nullptr) request_.output->WriteCodes(linear, first_row, rows);
    };
    const PartSink parts = [this](const LinearSpec& linear, LinearPart part, int64_t offset,
                                  std::span<const std::byte> bytes) {
      if (request_.output != nullptr) request_.output->WritePart(linear, part, offset, bytes);
    };
    for (std::size_t i = 0; i < unit.size(); ++i) {
      calls_.keep_going();
      LayerFacts facts = QuantizeLayer(unit[i], std::move(statistics[i]), *request_.quantization,
                                       codes, {}, {}, parts);
      if (request_.output != nullptr) {
        request_.output->WriteScales(unit[i].spec(), facts);
        request_.output->WriteUnchangedOf(unit[i]);
      }
      std::ranges::move(facts.linears, std::back_inserter(result_.linears));
    }
  }

  // Of experts that are in memory for the second time: what rounding takes of their own tokens.
  std::vector<LayerStatistics> SumStatistics(const std::vector<LoadedLayer>& unit, int64_t first) {
    if (request_.quantization->rounding != RoundingAlgorithm::kCompensated) {
      return std::vector<LayerStatistics>(unit.size());
    }
    const PhaseTimer timer(result_.calibration_seconds);
    const auto calibration = std::ranges::find(streams_, Use::kCalibration, &PassStream::use);
    Observers observers;
    for (const LoadedLayer& expert : unit) {
      observers.emplace_back(
          new LayerCalibration(MakeCalibration(expert.spec(), *request_.quantization)));
    }
    result_.calibration_flops +=
        Forward(unit, first, *calibration, observers, Output::kNone) * 2 / 3;
    return StatisticsOf(observers, unit, first);
  }

  void DropThinStatistics(const LayerSpec& expert, int64_t index, LayerStatistics& statistics) {
    const int64_t tokens = request_.calibrate_all_experts
                               ? result_.facts.calibration_tokens
                               : result_.facts.tokens[static_cast<std::size_t>(index)];
    for (const GroupSpec& group : GroupsOf(expert)) {
      if (tokens * kTokensPerColumn >= group.columns) continue;
      statistics.hessians[static_cast<std::size_t>(group.id)] = std::nullopt;
    }
  }

  const PassRequest& request_;
  const LayerSpec& layer_;
  const ExpertsBlock& block_;
  std::list<PassStream>& streams_;
  const ExpertStagesCalls& calls_;
  const int64_t flops_per_row_;
  const bool needs_all_ranges_;
  bool twice_ = false;  // the experts are read: for the original, then for the quantized networks
  LayerRanges ranges_;  // of all experts: serving engines take one scale for them, if it is static
  ExpertStagesResult result_;
};

// The share of the chosen experts that two streams of the same tokens have in common.
double Agreement(const PassStream& a, const PassStream& b, int64_t per_token) {
  int64_t same = 0;
  const auto each = static_cast<std::size_t>(per_token);
  for (const Batch& batch : a.batches) {
    const std::span<const int32_t> chosen = ChosenIn(a, batch, per_token);
    const std::span<const int32_t> others = ChosenIn(b, batch, per_token);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const auto of_token = others.subspan(i / each * each, each);
      if (std::ranges::find(of_token, chosen[i]) != of_token.end()) ++same;
    }
  }
  return static_cast<double>(SumOverRanks(same)) / static_cast<double>(a.experts.size());
}

}  // namespace

ExpertStagesResult RunExperts(const PassRequest& request, const LayerSpec& layer,
                              std::list<PassStream>& streams, const ExpertStagesCalls& calls) {
  ExpertStagesResult result = ExpertStages(request, layer, streams, calls).Run();
  const PassStream *original = nullptr, *deployed = nullptr;
  for (const PassStream& stream : streams) {
    if (stream.use != Use::kEvaluation) continue;
    (stream.network->view ? deployed : original) = &stream;  // the last is the deployed one
  }
  if (original != nullptr && deployed != nullptr) {
    result.facts.route_agreement = Agreement(*original, *deployed, layer.experts->per_token);
  }
  return result;
}

void AddSeconds(const ExpertStagesResult& experts, PassResult& result) {
  result.calibration_seconds += experts.calibration_seconds;
  result.quantization_seconds += experts.quantization_seconds;
  result.evaluation_seconds += experts.evaluation_seconds;
  result.calibration_flops += experts.calibration_flops;
  result.evaluation_flops += experts.evaluation_flops;
}

}  // namespace narrow
