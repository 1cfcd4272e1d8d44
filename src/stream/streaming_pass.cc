#include "stream/streaming_pass.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <tuple>
#include <utility>

#include "base/interrupt.h"
#include "base/memory_use.h"
#include "model/loaded_layer.h"
#include "quantization/calibration.h"
#include "quantization/layer_probe.h"
#include "stream/layer_progress.h"
#include "stream/losses.h"

namespace narrow {
namespace {

// Adds the time of its own life to a sum.
class PhaseTimer {
 public:
  explicit PhaseTimer(double& sum) : sum_(sum), start_(std::chrono::steady_clock::now()) {}
  ~PhaseTimer() {
    sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  double& sum_;
  std::chrono::steady_clock::time_point start_;
};

template <typename T>
class Pass {
 public:
  Pass(const PassRequest& request, ProgressSink& progress)
      : request_(request),
        config_(request.config),
        progress_(progress),
        steps_(progress, &LayerProgress::SteadySeconds),
        rope_(config_.rope, config_.heads.head_size, LongestSequence(request)) {}

  PassResult Run() {
    OpenStreams();
    const int64_t first_layer = request_.resume != nullptr ? Resume() : 0;
    if (first_layer == 0) EmbedTexts();
    steps_.Begin(PhaseName(), config_.layers, first_layer);
    TakeTransfers();  // those of the embedding
    std::future<StoredLayer> next;
    if (first_layer < config_.layers) next = ReadAhead(first_layer);
    for (int64_t layer = first_layer; layer < config_.layers; ++layer) {
      {
        LayerTimes& times = result_.layer_times.emplace_back();
        const PhaseTimer timer(times.seconds);
        BeginSteps(layer);
        LoadedLayer<T> loaded = Load(next, times.loading_seconds);
        // Not before the layer is packed: what was read ahead and what is packed would add up.
        if (layer + 1 < config_.layers) next = ReadAhead(layer + 1);
        steps_.Loaded();
        RunLayer(loaded);
        steps_.EndLayer();
      }
      std::tie(result_.layer_times.back().read, result_.layer_times.back().written) =
          TakeTransfers();
      request_.checkpoint->CheckUnchanged();
      result_.layer_rss_bytes.push_back(CurrentResidentBytes());
      SaveAfter(layer + 1);
    }
    steps_.End();
    FinishModel();
    return std::move(result_);
  }

 private:
  // One text on its way through one version of the model.
  struct Stream {
    std::string name;
    LayerWork work = LayerWork::kQuantized;  // that taking it through a layer is
    const TokenStream* tokens = nullptr;
    std::vector<Batch> batches;
    HiddenStore hidden;
  };

  static int64_t LongestSequence(const PassRequest& request) {
    int64_t longest = 0;
    for (const TokenStream* stream : {request.calibration, request.evaluation, request.probe}) {
      if (stream != nullptr) longest = std::max(longest, stream->longest());
    }
    return longest;
  }

  const char* HowToContinue() const {
    return request_.save ? "the same command continues from the last saved layer"
                         : "the same command starts over";
  }

  bool quantizing() const { return request_.quantization.has_value(); }

  std::string PhaseName() const {
    if (!quantizing()) return "Evaluating layers";
    if (request_.output == nullptr && request_.evaluation == nullptr) return "Measuring errors";
    return request_.evaluation != nullptr ? "Calibrating, quantizing, evaluating"
                                          : "Calibrating, quantizing";
  }

  void BeginSteps(int64_t layer) {
    std::vector<LayerProgress::Text> texts;
    for (std::optional<Stream>* stream : AllStreams()) {
      if (*stream) texts.push_back({(*stream)->work, &(*stream)->batches});
    }
    steps_.BeginLayer(LayerCosts(request_.family->layer(config_, layer), config_, request_.compute,
                                 quantizing() ? &*request_.quantization : nullptr),
                      texts);
  }

  std::array<std::optional<Stream>*, 7> AllStreams() {
    return {&calibration_, &probe_, &stored_, &pseudo_, &weights_only_, &with_inputs_, &deployed_};
  }

  std::future<StoredLayer> ReadAhead(int64_t layer) const {
    return std::async(std::launch::async, [this, layer] {
      return OpenLayer(*request_.checkpoint, *request_.family, config_, layer,
                       request_.plan.read_ahead_bytes);
    });
  }

  LoadedLayer<T> Load(std::future<StoredLayer>& stored, double& seconds) const {
    const PhaseTimer timer(seconds);
    return LoadedLayer<T>(stored.get());
  }

  // What was read and written since the last call.
  std::pair<Traffic, Traffic> TakeTransfers() {
    const Traffic read = request_.checkpoint->traffic();
    const Traffic written = request_.output != nullptr ? request_.output->traffic() : Traffic{};
    return {read - std::exchange(read_, read), written - std::exchange(written_, written)};
  }

  void OpenStream(std::optional<Stream>& stream, const TokenStream& tokens, const std::string& name,
                  int64_t batch_rows, LayerWork work = LayerWork::kQuantized) {
    stream.emplace(Stream{name, work, &tokens, MakeBatches(tokens, batch_rows),
                          HiddenStore(tokens.size(), config_.hidden, request_.plan.hidden_states,
                                      request_.work_directory / ("hidden-" + name))});
  }

  void OpenStreams() {
    const int64_t rows = request_.plan.batch_rows;
    if (request_.calibration != nullptr) {
      OpenStream(calibration_, *request_.calibration, "calibration", rows, LayerWork::kCalibrating);
    }
    if (request_.probe != nullptr && quantizing()) {
      OpenStream(probe_, *request_.probe, "probe", request_.probe->size(),  // one batch
                 LayerWork::kProbing);
    }
    if (request_.evaluation == nullptr) return;
    OpenStream(stored_, *request_.evaluation, "original", rows, LayerWork::kOriginal);
    if (!quantizing()) return;
    OpenStream(deployed_, *request_.evaluation, "deployed", rows);
    // With shared scales vLLM's requantization changes nothing: the two models are one.
    if (request_.quantization->weight_scales == WeightScales::kPerMatrix) {
      OpenStream(pseudo_, *request_.evaluation, "pseudo", rows);
    }
    if (request_.attribution_windows > 0) OpenAttribution();
  }

  // The deployed model is the last stage: it goes through these windows anyway.
  void OpenAttribution() {
    const int64_t rows = request_.plan.batch_rows;
    attributed_windows_ = SpreadSequences(*request_.evaluation, request_.attribution_windows);
    attributed_tokens_ =
        SelectSequences(*request_.evaluation, attributed_windows_, request_.evaluation->longest());
    OpenStream(weights_only_, attributed_tokens_, "weights", rows);
    if (request_.quantization->cache == CacheScheme::kFp8) {
      OpenStream(with_inputs_, attributed_tokens_, "inputs", rows);
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
    for (std::optional<Stream>* stream : AllStreams()) {
      if (!*stream) continue;
      const auto generation = state.hidden_generations.find((*stream)->name);
      if (generation == state.hidden_generations.end()) {
        Fail(ErrorCode::kCorruptInput,
             "the saved state has no hidden states \"{}\"; start over with --resume never",
             (*stream)->name);
      }
      (*stream)->hidden.Load(generation->second);
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
    if (request_.plan.hidden_states == Placement::kMemory &&
        since_save.count() < request_.save_interval_seconds) {
      return;
    }
    if (request_.output != nullptr) request_.output->Flush();
    RunState state;
    state.layers_done = layers_done;
    state.layers = result_.layers;
    state.calibration_seconds = result_.calibration_seconds;
    state.quantization_seconds = result_.quantization_seconds;
    state.evaluation_seconds = result_.evaluation_seconds;
    state.calibration_flops = result_.calibration_flops;
    state.evaluation_flops = result_.evaluation_flops;
    for (std::optional<Stream>* stream : AllStreams()) {
      if (*stream) state.hidden_generations[(*stream)->name] = (*stream)->hidden.Save();
    }
    request_.save(std::move(state));
    last_save_ = now;
  }

  void EmbedTexts() {
    EmbeddingRequest embedding;
    embedding.checkpoint = request_.checkpoint;
    embedding.family = request_.family;
    embedding.config = &config_;
    embedding.copy_to = request_.output;
    for (std::optional<Stream>* stream : AllStreams()) {
      if (*stream) embedding.texts.push_back({(*stream)->tokens, &(*stream)->hidden});
    }
    if (stored_) embedding.head = request_.plan.tied_head;
    embedding.how_to_continue = HowToContinue();
    tied_head_ = Embed<T>(embedding);
  }

  // Copies a tensor to the output. Throws: kNumeric when it holds NaN or infinity.
  void CopyChecked(const std::string& name) {
    const Dtype dtype = request_.checkpoint->Get(name).entry.dtype;
    request_.output->Copy(
        name, [&](int64_t, std::span<const std::byte> rows) { CheckFinite(dtype, rows, name); });
  }

  void RunLayer(LoadedLayer<T>& layer) {
    LayerStatistics statistics;
    if (calibration_) {
      const PhaseTimer timer(result_.calibration_seconds);
      LayerCalibration<T> observer =
          quantizing() ? MakeCalibration<T>(layer.spec(), config_, *request_.quantization)
                       : LayerCalibration<T>(layer.spec(), {}, {});
      result_.calibration_flops += Forward(layer, *calibration_, &observer);
      statistics = observer.Take(layer.spec());
      if (!calibration_finite_) FailStates(layer.spec(), calibration_->name);
    }
    if (stored_) Evaluate(layer, *stored_);
    if (!quantizing()) return;
    QuantizeAndProbe(layer, std::move(statistics));
    if (pseudo_) Evaluate(layer, *pseudo_);
    if (deployed_) {
      DeployLayer(layer, *request_.quantization->scheme);
      steps_.Deployed();
      EvaluateParts(layer);
      Evaluate(layer, *deployed_);
    }
  }

  void QuantizeAndProbe(LoadedLayer<T>& layer, LayerStatistics statistics) {
    if (!probe_) return Quantize(layer, std::move(statistics), {});
    const Batch& batch = probe_->batches.front();
    const MatrixView<float> rows = probe_->hidden.Take(batch);
    LayerProbe<T> probe(config_, rope_, layer.runnable(), batch.sequences, rows, workspace_);
    steps_.Passed(LayerWork::kProbing, batch);
    Quantize(layer, std::move(statistics), [&](std::optional<LinearGroup> part) {
      probe.Step(part);
      steps_.Passed(LayerWork::kProbing, batch);
    });
    result_.layers.back().errors = probe.Errors();
    for (int64_t row = 0; row < rows.rows; ++row) {
      std::copy_n(probe.original_output().Row(row), rows.columns, rows.Row(row));
    }
    probe_->hidden.Put(batch);
    probe_->hidden.Advance();
  }

  void EvaluateParts(LoadedLayer<T>& layer) {
    using Parts = typename LoadedLayer<T>::Parts;
    if (!weights_only_) return;
    layer.RunParts(Parts::kWeights);
    Evaluate(layer, *weights_only_);
    if (with_inputs_) {
      layer.RunParts(Parts::kWeightsAndInputs);
      Evaluate(layer, *with_inputs_);
    }
    layer.RunParts(Parts::kAll);
  }

  void Quantize(LoadedLayer<T>& layer, LayerStatistics statistics, const StepSink& step) {
    const PhaseTimer timer(result_.quantization_seconds);
    const CodeSink sink = [this](const LinearSpec& linear, int64_t first_row,
                                 std::span<const std::byte> codes) {
      if (request_.output != nullptr) request_.output->WriteCodes(linear, first_row, codes);
      steps_.Rounded(linear.group, std::ssize(codes) / linear.columns);
    };
    result_.layers.push_back(QuantizeLayer(layer, config_, std::move(statistics),
                                           *request_.quantization, sink, step,
                                           [this](LinearGroup group) { steps_.Factored(group); }));
    if (request_.output == nullptr) return;
    request_.output->WriteScales(layer.spec(), result_.layers.back());
    layer.CopyUnchanged(
        [this](const std::string& tensor, int64_t offset, std::span<const std::byte> bytes) {
          request_.output->WriteUnchanged(tensor, offset, bytes);
        });
  }

  void Evaluate(const LoadedLayer<T>& layer, Stream& stream) {
    const PhaseTimer timer(result_.evaluation_seconds);
    result_.evaluation_flops += Forward(layer, stream, nullptr);
  }

  // Takes a stream through a layer; returns the operations that took.
  int64_t Forward(const LoadedLayer<T>& layer, Stream& stream, LayerCalibration<T>* observer) {
    int64_t flops = 0;
    for (const Batch& batch : stream.batches) {
      ThrowIfStopRequested(HowToContinue());
      if (observer != nullptr) observer->BeginBatch(batch.first_row, batch.rows);
      const MatrixView<float> rows = stream.hidden.Take(batch);
      ForwardLayer<T>(config_, rope_, layer.runnable(), batch.sequences, rows, workspace_,
                      observer);
      if (observer != nullptr) observer->EndBatch();
      if (!AreFinite(rows)) {
        if (observer == nullptr) FailStates(layer.spec(), stream.name);
        calibration_finite_ = false;  // what was observed tells more
      }
      stream.hidden.Put(batch);
      flops += batch.rows * LinearFlopsPerToken(layer.spec());
      for (const Sequence& sequence : batch.sequences) {
        flops += CausalAttentionFlops(config_.heads, sequence.count);
      }
      steps_.Passed(stream.work, batch);
    }
    stream.hidden.Advance();
    return flops;
  }

  // The tensors after the last layer: copied to the output, and the losses computed.
  void FinishModel() {
    calibration_.reset();
    probe_.reset();
    workspace_ = {};
    const ModelSpec model = request_.family->model(config_);
    const StoredVector norm = ReadVector(*request_.checkpoint, model.final_norm.name);
    if (request_.output != nullptr) {
      request_.output->WriteUnchanged(norm.name, 0, norm.bytes.span());
    }
    const bool copies_head = request_.output != nullptr && model.lm_head != model.embedding;
    if (stored_) {
      EvaluateStreams(norm.values, copies_head);
    } else if (copies_head) {
      CopyChecked(model.lm_head);
    }
  }

  // Losses of every evaluated token, and what quantization did to them.
  void EvaluateStreams(std::span<const float> final_norm, bool copies_head) {
    const PhaseTimer timer(result_.evaluation_seconds);
    LossRequest losses;
    losses.checkpoint = request_.checkpoint;
    losses.family = request_.family;
    losses.config = &config_;
    losses.final_norm = final_norm;
    losses.copy_to = copies_head ? request_.output : nullptr;
    losses.head_slice_rows = request_.plan.head_slice_rows;
    losses.tokens = stored_->tokens;
    losses.batches = stored_->batches;
    losses.how_to_continue = HowToContinue();
    losses.hidden = {&stored_->hidden};
    std::vector<std::optional<DivergenceSummary>*> summaries;
    const auto add_variant = [&](std::optional<Stream>& stream,
                                 std::optional<DivergenceSummary>& summary) {
      if (!stream) return;
      losses.hidden.push_back(&stream->hidden);
      summaries.push_back(&summary);
    };
    add_variant(pseudo_, result_.pseudo);
    add_variant(deployed_, result_.deployed);
    losses.partial_sequences = attributed_windows_;
    for (std::optional<Stream>* stream : {&weights_only_, &with_inputs_}) {
      if (*stream) losses.partial_hidden.push_back(&(*stream)->hidden);
    }
    Losses found = ComputeLosses<T>(losses, tied_head_ ? &*tied_head_ : nullptr, progress_);
    result_.stored_window_nll = std::move(found.window_nll);
    for (std::size_t v = 0; v < summaries.size(); ++v) *summaries[v] = std::move(found.variants[v]);
    result_.evaluation_flops += found.flops;
    if (!weights_only_) return;
    std::vector<QuantizedPart> parts = {QuantizedPart::kWeights, QuantizedPart::kInputs};
    if (with_inputs_) parts.push_back(QuantizedPart::kCache);
    result_.part_costs = AttributeCost(parts, found.partial);
    result_.attributed_windows = std::ssize(attributed_windows_);
  }

  const PassRequest& request_;
  const DecoderConfig& config_;
  ProgressSink& progress_;
  LayerProgress steps_;
  RopeTable rope_;
  BatchWorkspace<T> workspace_;
  std::chrono::steady_clock::time_point last_save_ = std::chrono::steady_clock::now();
  std::optional<Stream> calibration_;
  bool calibration_finite_ = true;
  std::optional<Stream> probe_;               // through the original layers
  std::optional<Stream> stored_;              // the checkpoint as it is
  std::optional<Stream> pseudo_;              // quantized, every matrix at its own scale
  std::optional<Stream> deployed_;            // quantized, as vLLM runs it
  std::vector<int64_t> attributed_windows_;   // of the evaluation
  TokenStream attributed_tokens_;             // these windows
  std::optional<Stream> weights_only_;        // deployed weights alone
  std::optional<Stream> with_inputs_;         // and inputs; absent where the cache is not quantized
  std::optional<PackedMatrix<T>> tied_head_;  // from the embedding to the losses
  Traffic read_, written_;                    // until TakeTransfers was last called
  PassResult result_;
};

}  // namespace

PassResult RunStreamingPass(const PassRequest& request, ProgressSink& progress) {
  NARROW_CHECK(!request.quantization || request.calibration != nullptr);
  if (request.compute == ComputeType::kBfloat16) return Pass<Bfloat16>(request, progress).Run();
  return Pass<float>(request, progress).Run();
}

}  // namespace narrow
