#include "stream/expert_stages.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/phase_timer.h"
#include "quantization/calibration.h"
#include "quantization/layer_view.h"

namespace narrow {
namespace {

// Fewer tokens than this share of a product's inputs say too little of how they go together: an
// expert that saw no more is rounded to nearest.
constexpr int64_t kTokensPerColumn = 4;

void Include(const std::vector<float>& maxima, std::vector<float>& all) {
  all.resize(maxima.size(), 0.0f);
  std::ranges::transform(maxima, all, all.begin(), [](float a, float b) { return std::max(a, b); });
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
        flops_per_row_(LinearFlopsPerToken(ExpertLayer(layer, 0))) {
    result_.facts.module = block_.module;
    result_.facts.per_token = block_.per_token;
  }

  ExpertStagesResult Run() {
    const LayerQuantizationOptions* options = quantizing() ? &*request_.quantization : nullptr;
    const int64_t together = ExpertsTogether(layer_, request_.compute, options);
    std::vector<LoadedLayer> unit;
    for (int64_t first = 0; first < block_.count; first += together) {
      unit.clear();  // before the next is there
      unit = calls_.load();
      RunOriginal(unit, first);
      Report(std::ssize(unit), options == nullptr ? 1.0 : 0.5);
    }
    for (int64_t first = 0; quantizing() && first < block_.count; first += together) {
      if (together < block_.count) {
        unit.clear();
        unit = calls_.load();
      }
      RunQuantized(unit, first);
      Report(std::ssize(unit), 0.5);
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
  enum class Output { kAdded, kNone };
  int64_t Forward(const std::vector<LoadedLayer>& unit, int64_t first, PassStream& stream,
                  const Observers& observers, Output output) {
    int64_t rows = 0;
    std::vector<int64_t> seen(unit.size());
    for (const Batch& batch : stream.batches) {
      calls_.keep_going();
      const RoutedRows routed = stream.Routed(batch, stream.inputs->Take(batch), block_.per_token);
      const MatrixView<float> hidden =
          output == Output::kAdded ? stream.hidden.Take(batch) : MatrixView<float>();
      for (std::size_t i = 0; i < unit.size(); ++i) {
        const auto expert = static_cast<int32_t>(first + static_cast<int64_t>(i));
        const bool all = !observers.empty() && request_.calibrate_all_experts;
        const ExpertRows chosen =
            all ? AllRows(routed, batch.rows, expert) : RowsOfExpert(routed, batch.rows, expert);
        const int64_t count = std::ssize(chosen.rows);
        LayerCalibration* const observer = observers.empty() ? nullptr : observers[i].get();
        if (observer != nullptr) observer->BeginBatch(request_.compute, seen[i], count);
        ForwardExpert(unit[i].runnable(), block_.routing.weighed, routed, chosen, hidden, observer);
        if (observer != nullptr) observer->EndRound();
        seen[i] += count;
        rows += count;
      }
      if (output == Output::kNone) continue;
      if (!AreFinite(hidden)) FailStates(layer_, stream.name);
      stream.hidden.Put(batch);
    }
    stream.inputs->Release();
    stream.hidden.Release();
    return rows * flops_per_row_;
  }

  void RunOriginal(const std::vector<LoadedLayer>& unit, int64_t first) {
    for (PassStream& stream : streams_) {
      if (stream.use == Use::kCalibration) {
        const PhaseTimer timer(result_.calibration_seconds);
        Observers observers;
        for (const LoadedLayer& expert : unit) {
          observers.push_back(std::make_unique<LayerCalibration>(expert.spec(), LayerHessians(),
                                                                 BasisStatistics()));
        }
        result_.calibration_flops += Forward(unit, first, stream, observers, Output::kAdded);
        for (std::size_t i = 0; i < unit.size(); ++i) {
          const LayerRanges ranges = observers[i]->Take(unit[i].spec()).ranges;
          for (const LinearGroup group : {LinearGroup::kGateUp, LinearGroup::kDown}) {
            Include(ranges.Input(group), ranges_.inputs[static_cast<std::size_t>(group)]);
          }
        }
        CountTokens(unit, first, stream);
      } else if (stream.evaluates() && !stream.network->view) {
        const PhaseTimer timer(result_.evaluation_seconds);
        result_.evaluation_flops += Forward(unit, first, stream, {}, Output::kAdded);
      }
    }
  }

  void CountTokens(const std::vector<LoadedLayer>& unit, int64_t first, const PassStream& stream) {
    result_.facts.calibration_tokens = stream.tokens->size();
    for (int64_t e = first; e < first + std::ssize(unit); ++e) {
      result_.facts.tokens.push_back(std::ranges::count(stream.experts, static_cast<int32_t>(e)));
    }
  }

  void RunQuantized(std::vector<LoadedLayer>& unit, int64_t first) {
    std::vector<LayerStatistics> statistics = Statistics(unit, first);
    QuantizeUnit(unit, std::move(statistics));
    for (PassStream& stream : streams_) {
      if (!stream.evaluates() || !stream.network->view) continue;
      const PhaseTimer timer(result_.evaluation_seconds);
      for (LoadedLayer& expert : unit) {
        Become(expert, *stream.network->view, *request_.quantization->scheme);
      }
      result_.evaluation_flops += Forward(unit, first, stream, {}, Output::kAdded);
    }
  }

  void QuantizeUnit(std::vector<LoadedLayer>& unit, std::vector<LayerStatistics> statistics) {
    const PhaseTimer timer(result_.quantization_seconds);
    const CodeSink codes = [this](const LinearSpec& linear, int64_t first_row,
                                  std::span<const std::byte> rows) {
      if (request_.output != nullptr) request_.output->WriteCodes(linear, first_row, rows);
    };
    for (std::size_t i = 0; i < unit.size(); ++i) {
      calls_.keep_going();
      LayerFacts facts =
          QuantizeLayer(unit[i], std::move(statistics[i]), *request_.quantization, codes);
      if (request_.output != nullptr) {
        request_.output->WriteScales(unit[i].spec(), facts);
        request_.output->WriteUnchangedOf(unit[i]);
      }
      std::ranges::move(facts.linears, std::back_inserter(result_.linears));
    }
  }

  // Ranges of the layer's experts together, which serving engines take, and for each expert the
  // second-order statistics of its own tokens.
  std::vector<LayerStatistics> Statistics(const std::vector<LoadedLayer>& unit, int64_t first) {
    std::vector<LayerStatistics> statistics(unit.size());
    if (request_.quantization->rounding == RoundingAlgorithm::kCompensated) {
      const PhaseTimer timer(result_.calibration_seconds);
      const auto calibration = std::ranges::find(streams_, Use::kCalibration, &PassStream::use);
      Observers observers;
      for (const LoadedLayer& expert : unit) {
        observers.emplace_back(
            new LayerCalibration(MakeCalibration(expert.spec(), *request_.quantization)));
      }
      result_.calibration_flops +=
          Forward(unit, first, *calibration, observers, Output::kNone) * 2 / 3;
      for (std::size_t i = 0; i < unit.size(); ++i) {
        statistics[i] = observers[i]->Take(unit[i].spec());
        DropThinStatistics(unit[i].spec(), first + static_cast<int64_t>(i), statistics[i]);
      }
    }
    for (LayerStatistics& each : statistics) each.ranges = ranges_;
    return statistics;
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
  LayerRanges ranges_;
  ExpertStagesResult result_;
};

// The share of the chosen experts that two streams of the same tokens have in common.
double Agreement(const PassStream& a, const PassStream& b, int64_t per_token) {
  int64_t same = 0;
  const auto each = static_cast<std::size_t>(per_token);
  for (std::size_t first = 0; first < a.experts.size(); first += each) {
    for (std::size_t i = first; i < first + each; ++i) {
      const std::span<const int32_t> others(b.experts.data() + first, each);
      if (std::ranges::find(others, a.experts[i]) != others.end()) ++same;
    }
  }
  return static_cast<double>(same) / static_cast<double>(a.experts.size());
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

}  // namespace narrow
