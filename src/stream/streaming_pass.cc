#include "stream/streaming_pass.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/interrupt.h"
#include "base/memory_use.h"
#include "base/phase_timer.h"
#include "base/ranks.h"
#include "model/loaded_layer.h"
#include "quantization/calibration.h"
#include "quantization/layer_probe.h"
#include "stream/expert_stages.h"
#include "stream/layer_progress.h"
#include "stream/layer_units.h"
#include "stream/networks.h"
#include "stream/pass_end.h"
#include "stream/pass_model.h"
#include "stream/pass_stream.h"

namespace narrow {
namespace {

class Pass {
 public:
  Pass(const PassRequest& request, ProgressSink& progress)
      : request_(request),
        config_(request.config),
        progress_(progress),
        steps_(progress, &LayerProgress::SteadySeconds) {
    models_.emplace_back(request.source(), LongestSequence(request));
    if (!request.judged) return;
    models_.emplace_back(*request.judged, LongestSequence(request));
    stages_ = StageViews(request);
  }

  PassResult Run() {
    OpenStreams();
    const int64_t first_layer = request_.resume != nullptr ? Resume() : 0;
    if (first_layer == 0) EmbedTexts(request_, models_, streams_, HowToContinue());
    steps_.Begin(NameOfLayers(request_), config_.layers, first_layer);
    TakeTransfers();  // those of the embedding
    OpenUnits(first_layer);
    for (int64_t layer = first_layer; layer < config_.layers; ++layer) {
      {
        LayerTimes& times = result_.layer_times.emplace_back();
        const PhaseTimer timer(times.seconds);
        const SecondsOf before = SecondsSoFar();
        BeginSteps(layer);
        {
          std::vector<LoadedLayer> loaded = NextUnit();
          steps_.Loaded();
          RunLayer(loaded);
        }
        if (SpecOf(layer).experts) RunExpertsOf(layer);
        steps_.EndLayer();
        times.whole = SecondsSoFar() - before;
      }
      std::tie(result_.layer_times.back().read, result_.layer_times.back().written) =
          TakeTransfers();
      for (const PassModel& model : models_) model.source.checkpoint->CheckUnchanged();
      result_.layer_rss_bytes.push_back(CurrentResidentBytes());
      SaveAfter(layer + 1);
    }
    steps_.End();
    workspace_ = {};
    EndPass(request_, models_, attributed_, streams_, HowToContinue(), progress_, result_);
    return std::move(result_);
  }

 private:
  using Stream = PassStream;

  const char* HowToContinue() const {
    return request_.save ? "the same command continues from the last saved layer"
                         : "the same command starts over";
  }

  SecondsOf SecondsSoFar() const {
    return {result_.layer_times.back().loading_seconds, result_.calibration_seconds,
            result_.quantization_seconds, result_.evaluation_seconds,
            result_.calibration_flops + result_.evaluation_flops};
  }

  bool quantizing() const { return request_.quantization.has_value(); }
  bool judging() const { return request_.judged.has_value(); }

  const LayerQuantizationOptions* quantization() const {
    return quantizing() ? &*request_.quantization : nullptr;
  }
  const LayerSpec& SpecOf(int64_t layer) const {
    return models_.front().layers[static_cast<std::size_t>(layer)];
  }

  void OpenUnits(int64_t first_layer) {
    std::vector<UnitSource> sources;
    for (const PassModel& model : models_) {
      sources.push_back({model.source.checkpoint, &model.layers, std::nullopt});
    }
    if (Compares(request_)) sources.front().dequantized = config_.dtype;
    units_.emplace(std::move(sources),
                   UnitsOf(models_.front().layers, first_layer, request_.compute, quantization(),
                           request_.plan.expert_bytes, judging()),
                   request_.compute, request_.plan.read_ahead_bytes);
  }
  std::vector<LoadedLayer> NextUnit() {
    return units_->Next(result_.layer_times.back().loading_seconds);
  }

  void BeginSteps(int64_t layer) {
    std::vector<LayerProgress::Text> texts;
    for (const Stream& stream : streams_) texts.push_back({stream.work(), &stream.batches});
    LayerCosts costs(SpecOf(layer), request_.compute, quantization());
    if (judging()) costs.AddJudged(std::ssize(stages_));
    steps_.BeginLayer(costs, texts);
  }

  // What was read and written since the last call.
  std::pair<Traffic, Traffic> TakeTransfers() {
    Traffic read;
    for (const PassModel& model : models_) read = read + model.source.checkpoint->traffic();
    const Traffic written = request_.output != nullptr ? request_.output->traffic() : Traffic{};
    return {read - std::exchange(read_, read), written - std::exchange(written_, written)};
  }

  void OpenStream(Use use, const Network& network, const TokenStream& tokens,
                  const std::string& name, std::vector<Part> parts) {
    streams_.push_back(MakePassStream(request_, use, network, tokens, name, std::move(parts)));
  }

  // In the order in which a layer becomes the networks.
  void OpenStreams() {
    const int64_t rows = request_.plan.batch_rows;
    if (const TokenStream* texts = request_.calibration) {
      OpenStream(Use::kCalibration, kOriginal, *texts, "calibration", DivideInRounds(*texts, rows));
    }
    // The steps of a probe take a layer as a whole.
    if (request_.probe != nullptr && Compares(request_) && config_.experts.count == 0) {
      const TokenStream& probe = *request_.probe;  // of each rank, one batch
      OpenStream(Use::kProbe, kOriginal, probe, "probe",
                 DivideInStretches(probe, CostsOf(probe, 1), probe.size()));
    }
    if (request_.evaluation == nullptr) return;
    const std::vector<EvaluatedNetwork> networks = EvaluatedNetworks(request_);
    const auto some = std::ranges::count(networks, Use::kAttribution, &EvaluatedNetwork::use);
    if (Compares(request_) && request_.attribution_windows > 0) {
      attributed_.windows = SpreadSequences(*request_.evaluation, request_.attribution_windows);
    }
    const std::vector<int64_t> costs =
        CostsOf(*request_.evaluation, std::ssize(networks) - some, attributed_.windows, some);
    const std::vector<Part> evaluated = DivideInStretches(*request_.evaluation, costs, rows);
    std::vector<Part> attributed;
    if (!attributed_.windows.empty()) {
      attributed_tokens_ = SelectSequences(*request_.evaluation, attributed_.windows,
                                           request_.evaluation->longest());
      attributed_.ranks =
          RanksOf(evaluated, attributed_.windows);  // the original's states are there
      attributed = DivideLike(attributed_tokens_, attributed_.ranks, rows);
    }
    for (const auto& [use, network] : networks) {
      OpenStream(use, *network,
                 use == Use::kAttribution ? attributed_tokens_ : *request_.evaluation,
                 std::string(network->name), use == Use::kAttribution ? attributed : evaluated);
    }
  }

  // Takes over what an earlier run computed; returns the layer to go on with.
  int64_t Resume() {
    const RunState& state = *request_.resume;
    if (state.layers_done < 0 || state.layers_done > config_.layers) {
      Fail(ErrorCode::kCorruptInput,
           "the saved state is of layer {}, the model has {}; start over with --resume never",
           state.layers_done, config_.layers);
    }
    for (Stream& stream : streams_) {
      const auto generation = state.hidden_generations.find(stream.name);
      if (generation == state.hidden_generations.end()) {
        Fail(ErrorCode::kCorruptInput,
             "the saved state has no hidden states \"{}\"; start over with --resume never",
             stream.name);
      }
      stream.hidden.Load(generation->second, stream.parts);
    }
    result_.layers = state.layers;
    result_.calibration_seconds = state.calibration_seconds;
    result_.quantization_seconds = state.quantization_seconds;
    result_.evaluation_seconds = state.evaluation_seconds;
    result_.calibration_flops = state.calibration_flops;
    result_.evaluation_flops = state.evaluation_flops;
    if (request_.output != nullptr) request_.output->AssumeWritten(state.layers_done);
    if (request_.resumed) request_.resumed();
    return state.layers_done;
  }

  void SaveAfter(int64_t layers_done) {
    if (!request_.save) return;
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> since_save = now - last_save_;
    bool due = request_.plan.hidden_states != Placement::kMemory ||
               since_save.count() >= request_.save_interval_seconds;
    JobRanks().Share(due);  // the clock of one decides
    if (!due) return;
    if (request_.output != nullptr) request_.output->Flush();
    RunState state;
    state.layers_done = layers_done;
    state.layers = result_.layers;
    state.calibration_seconds = result_.calibration_seconds;
    state.quantization_seconds = result_.quantization_seconds;
    state.evaluation_seconds = result_.evaluation_seconds;
    state.calibration_flops = result_.calibration_flops;
    state.evaluation_flops = result_.evaluation_flops;
    for (Stream& stream : streams_) {
      state.hidden_generations[stream.name] = stream.hidden.Save(stream.parts);
    }
    request_.save(std::move(state));
    last_save_ = now;
  }

  // `loaded` is the layer of the source, and becomes that of the judged checkpoint where there is
  // one.
  void RunLayer(std::vector<LoadedLayer>& loaded) {
    LoadedLayer& layer = loaded.front();
    LayerStatistics statistics;
    if (request_.cache_trials) {
      layer.Run(LinearInputs::kQuantized, CacheContents::kOriginal,
                AttentionArithmetic::kDequantized);
    }
    if (Stream* calibration = FindStream(streams_, Use::kCalibration)) {
      const PhaseTimer timer(result_.calibration_seconds);
      LayerCalibration observer = quantizing()
                                      ? MakeCalibration(layer.spec(), *request_.quantization)
                                      : LayerCalibration(layer.spec(), {}, {});
      result_.calibration_flops += Forward(layer, *calibration, &observer);
      statistics = observer.Take(layer.spec());
      if (!calibration_finite_) FailStates(layer.spec(), calibration->name);
    }
    if (request_.cache_trials) {
      result_.caches.push_back(ChooseCache(layer.spec(), statistics.ranges, config_.dtype));
    }
    for (Stream& stream : streams_) {
      if (!stream.evaluates() || stream.network->view) continue;
      if (const auto trial = stream.network->trial) {
        layer.SetCache(result_.caches.back().Of(*trial));
      }
      Evaluate(layer, stream);
    }
    if (quantizing()) QuantizeAndProbe(layer, std::move(statistics));
    if (judging()) LoadJudged(loaded);
    RunViews(loaded.front());
  }

  void RunViews(LoadedLayer& layer) {
    bool deployed = false;
    for (Stream& stream : streams_) {
      if (!stream.network->view) continue;
      const LayerView& view = *stream.network->view;
      Become(layer, view);
      if (!deployed && view.weights == LayerView::Weights::kDeployed) {
        deployed = true;
        steps_.Deployed();
      }
      Evaluate(layer, stream);
    }
  }

  // The layer of the judged checkpoint in place of the source's, and how it differs from that.
  void LoadJudged(std::vector<LoadedLayer>& loaded) {
    Stream* const probed = FindStream(streams_, Use::kProbe);
    const auto next = [&] {
      loaded.clear();  // before the next is there
      loaded = NextUnit();
      steps_.Loaded();
    };
    result_.layers.emplace_back();
    std::optional<StageErrors>& probed_errors = result_.judged_layers.emplace_back();
    if (probed == nullptr) return next();
    const Batch batch = BatchOf(*probed);
    LayerProbe probe = BeginProbe(loaded.front(), *probed, batch);
    next();
    for (const LayerView& view : stages_) {
      Become(loaded.front(), view);
      probe.StepTo(loaded.front().runnable(), models_.back().rope);
      steps_.Passed(LayerWork::kProbing, batch);
    }
    probed_errors = probe.Stages();
    EndProbe(probe, *probed, batch);
  }

  // Of a probe, on this rank: one or none.
  static Batch BatchOf(const Stream& probed) {
    return probed.batches.empty() ? Batch{} : probed.batches.front();
  }

  // `batch` outlives the probe.
  LayerProbe BeginProbe(const LoadedLayer& layer, Stream& probed, const Batch& batch) {
    LayerProbe probe(layer.runnable(), models_.front().rope, batch.sequences,
                     probed.hidden.Take(batch), workspace_);
    steps_.Passed(LayerWork::kProbing, batch);
    return probe;
  }

  // The next layer's probe begins with what the original makes of the rows.
  static void EndProbe(const LayerProbe& probe, Stream& probed, const Batch& batch) {
    const MatrixView<float> rows = probed.hidden.Room(batch);
    for (int64_t row = 0; row < rows.rows; ++row) {
      std::copy_n(probe.original_output().Row(row), rows.columns, rows.Row(row));
    }
    probed.hidden.Put(batch);
    probed.hidden.Advance();
  }

  void QuantizeAndProbe(LoadedLayer& layer, LayerStatistics statistics) {
    Stream* const probed = FindStream(streams_, Use::kProbe);
    if (probed == nullptr) return Quantize(layer, std::move(statistics), {});
    const Batch batch = BatchOf(*probed);
    LayerProbe probe = BeginProbe(layer, *probed, batch);
    Quantize(layer, std::move(statistics), [&](std::optional<LinearGroup> part) {
      probe.Step(part);
      steps_.Passed(LayerWork::kProbing, batch);
    });
    result_.layers.back().errors = probe.Errors();
    EndProbe(probe, *probed, batch);
  }

  void Quantize(LoadedLayer& layer, LayerStatistics statistics, const StepSink& step) {
    const PhaseTimer timer(result_.quantization_seconds);
    const CodeSink sink = [this](const LinearSpec& linear, int64_t first_row,
                                 std::span<const std::byte> codes) {
      if (request_.output != nullptr) request_.output->WriteCodes(linear, first_row, codes);
      steps_.Rounded(linear.group, std::ssize(codes) / linear.columns);
    };
    const PartSink parts = [this](const LinearSpec& linear, LinearPart part, int64_t offset,
                                  std::span<const std::byte> bytes) {
      if (request_.output != nullptr) request_.output->WritePart(linear, part, offset, bytes);
      if (part != LinearPart::kCodes) return;
      const LinearScheme& scheme = request_.quantization->schemes->of_modules.at(linear.module);
      steps_.Rounded(linear.group,
                     std::ssize(bytes) * 8 / (CodeBits(scheme.weight.code) * linear.columns));
    };
    result_.layers.push_back(QuantizeLayer(
        layer, std::move(statistics), *request_.quantization, sink, step,
        [this](LinearGroup group) { steps_.Factored(group); }, parts));
    if (request_.output == nullptr) return;
    request_.output->WriteScales(layer.spec(), result_.layers.back());
    request_.output->WriteUnchangedOf(layer);
  }

  void Evaluate(const LoadedLayer& layer, Stream& stream) {
    const PhaseTimer timer(result_.evaluation_seconds);
    result_.evaluation_flops += Forward(layer, stream, nullptr);
  }

  // Takes a stream through a layer; returns the operations that took, of all ranks together.
  int64_t Forward(const LoadedLayer& layer, Stream& stream, LayerCalibration* observer) {
    int64_t in_round = 0;
    for (const Part& part : stream.parts) {
      if (part.rank == JobRanks().rank()) ForwardBatch(layer, stream, part.batch, observer);
      if (++in_round % JobRanks().count() == 0 && observer != nullptr) observer->EndRound();
    }
    if (layer.spec().experts) {
      stream.hidden.Revisit();
      stream.inputs->Advance();
    } else {
      stream.hidden.Advance();
    }
    int64_t flops = stream.tokens->size() * LinearFlopsPerToken(layer.spec());
    for (const Sequence& sequence : stream.tokens->sequences) {
      flops += AttentionFlops(layer.spec(), sequence.count);
    }
    return flops;
  }

  void ForwardBatch(const LoadedLayer& layer, Stream& stream, const Batch& batch,
                    LayerCalibration* observer) {
    ThrowIfStopRequested(HowToContinue());
    if (observer != nullptr) observer->BeginBatch(request_.compute, batch.first_row, batch.rows);
    if (batch.rows == 0) return;
    const MatrixView<float> rows = stream.hidden.Take(batch);
    const bool routes = layer.spec().experts.has_value();
    RoutedRows routed;
    if (routes) {
      routed = stream.Routed(batch, stream.inputs->Room(batch), config_.experts.per_token);
    }
    ForwardLayer(layer.runnable(), ModelOf(models_, stream).rope, batch.sequences, rows, workspace_,
                 observer, &routed);
    if (!AreFinite(rows)) {
      if (observer == nullptr) FailStates(layer.spec(), stream.name);
      calibration_finite_ = false;  // what was observed tells more
    }
    stream.hidden.Put(batch);
    if (routes) stream.inputs->Put(batch);
    steps_.Passed(stream.work(), batch);
  }

  // The experts of a layer whose inputs and routes the streams hold.
  void RunExpertsOf(int64_t layer) {
    const LayerSpec& spec = SpecOf(layer);
    const SecondsOf before = SecondsSoFar();
    ExpertStagesCalls calls;
    calls.load = [this] { return NextUnit(); };
    calls.keep_going = [this] { ThrowIfStopRequested(HowToContinue()); };
    calls.done = [this](double share) { steps_.PassedExperts(share); };
    ExpertStagesResult experts = RunExperts(request_, spec, streams_, calls);
    for (Stream& stream : streams_) stream.hidden.Advance();
    AddSeconds(experts, result_);
    result_.layer_times.back().experts = SecondsSoFar() - before;
    if (!Compares(request_)) return;
    LayerFacts& facts = result_.layers.back();
    std::ranges::move(experts.linears, std::back_inserter(facts.linears));
    facts.experts = std::move(experts.facts);
  }

  const PassRequest& request_;
  const DecoderConfig& config_;
  ProgressSink& progress_;
  LayerProgress steps_;
  std::vector<PassModel> models_;  // the source, and the judged one where there is one
  BatchWorkspace workspace_;
  std::chrono::steady_clock::time_point last_save_ = std::chrono::steady_clock::now();
  std::list<Stream> streams_;
  std::optional<UnitReader> units_;
  bool calibration_finite_ = true;
  std::vector<LayerView> stages_;  // of the probe of a judged layer
  AttributedWindows attributed_;
  TokenStream attributed_tokens_;  // these windows
  Traffic read_, written_;         // until TakeTransfers was last called
  PassResult result_;
};

}  // namespace

PassResult RunStreamingPass(const PassRequest& request, ProgressSink& progress) {
  NARROW_CHECK(!request.quantization || request.calibration != nullptr);
  NARROW_CHECK(!request.judged || (!request.quantization && request.evaluation != nullptr));
  return Pass(request, progress).Run();
}

}  // namespace narrow
