#include "pipeline/streaming_pass.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <numeric>
#include <utility>

#include "base/checked_math.h"
#include "base/interrupt.h"
#include "base/memory_use.h"
#include "base/parallel.h"
#include "evaluation/token_comparison.h"
#include "evaluation/token_loss.h"
#include "kernels/elementwise.h"
#include "pipeline/calibration.h"
#include "pipeline/loaded_layer.h"

namespace narrow {
namespace {

constexpr int64_t kReadChunkBytes = int64_t{32} << 20;
constexpr int64_t kWorstTokens = 20;
constexpr const char* kPseudoStream = "pseudo";
constexpr const char* kHowToContinue = "the same command continues from the last saved layer";

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
        rope_(config_.rope, config_.heads.head_size, LongestSequence(request)) {}

  PassResult Run() {
    OpenStreams();
    const int64_t first_layer = request_.resume != nullptr ? Resume() : 0;
    if (first_layer == 0) Embed();
    progress_.BeginPhase(PhaseName(), TotalWork(), "layer-tokens");
    progress_.Advance(TotalWork() / config_.layers * first_layer);
    std::future<StoredLayer> next;
    if (first_layer < config_.layers) next = ReadAhead(first_layer);
    for (int64_t layer = first_layer; layer < config_.layers; ++layer) {
      {
        const PhaseTimer timer(result_.layer_seconds.emplace_back());
        LoadedLayer<T> loaded(next.get(), *request_.scheme);
        // Not before the layer is packed: what was read ahead and what is packed would add up.
        if (layer + 1 < config_.layers) next = ReadAhead(layer + 1);
        RunLayer(loaded);
      }
      request_.checkpoint->CheckUnchanged();
      result_.layer_rss_bytes.push_back(CurrentResidentBytes());
      SaveAfter(layer + 1);
    }
    progress_.EndPhase();
    FinishModel();
    return std::move(result_);
  }

 private:
  // One text on its way through one version of the model.
  struct Stream {
    std::string name;
    const TokenStream* tokens = nullptr;
    std::vector<Batch> batches;
    HiddenStore hidden;
  };

  static int64_t LongestSequence(const PassRequest& request) {
    int64_t longest = 0;
    for (const TokenStream* stream : {request.calibration, request.evaluation}) {
      if (stream != nullptr) longest = std::max(longest, stream->longest());
    }
    return longest;
  }

  bool quantizing() const { return request_.quantization.has_value(); }

  std::string PhaseName() const {
    if (!quantizing()) return "Evaluating layers";
    return request_.evaluation != nullptr ? "Calibrating, quantizing, evaluating"
                                          : "Calibrating, quantizing";
  }

  int64_t TotalWork() const {
    int64_t tokens = 0;
    for (const std::optional<Stream>* stream : AllStreams()) {
      if (*stream) tokens += (*stream)->tokens->size();
    }
    return tokens * config_.layers;
  }

  std::array<std::optional<Stream>*, 4> AllStreams() {
    return {&calibration_, &stored_, &pseudo_, &deployed_};
  }
  std::array<const std::optional<Stream>*, 4> AllStreams() const {
    return {&calibration_, &stored_, &pseudo_, &deployed_};
  }

  std::future<StoredLayer> ReadAhead(int64_t layer) const {
    return std::async(std::launch::async, [this, layer] {
      return OpenLayer(*request_.checkpoint, *request_.family, config_, layer,
                       request_.plan.read_ahead_bytes);
    });
  }

  void OpenStream(std::optional<Stream>& stream, const TokenStream& tokens,
                  const std::string& name) {
    stream.emplace(Stream{name, &tokens, MakeBatches(tokens, request_.plan.batch_rows),
                          HiddenStore(tokens.size(), config_.hidden, request_.plan.hidden_states,
                                      request_.work_directory / ("hidden-" + name))});
  }

  void OpenStreams() {
    if (request_.calibration != nullptr) {
      OpenStream(calibration_, *request_.calibration, "calibration");
    }
    if (request_.evaluation == nullptr) return;
    OpenStream(stored_, *request_.evaluation, "original");
    if (!quantizing()) return;
    OpenStream(deployed_, *request_.evaluation, "deployed");
    // With shared scales vLLM's requantization changes nothing: the two models are one.
    if (request_.quantization->weight_scales == WeightScales::kPerMatrix) {
      OpenStream(pseudo_, *request_.evaluation, kPseudoStream);
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

  // Fills the hidden states of every stream with the embeddings of its tokens, of which only the
  // rows that occur are read; the embedding is copied to the output on the way.
  void Embed() {
    const std::string name = request_.family->model(config_).embedding;
    if (request_.output != nullptr) CopyChecked(name);
    for (std::optional<Stream>* stream : AllStreams()) {
      if (*stream) EmbedStream(name, **stream);
    }
  }

  // Copies a tensor to the output. Throws: kNumeric when it holds NaN or infinity.
  void CopyChecked(const std::string& name) {
    const Dtype dtype = request_.checkpoint->Get(name).entry.dtype;
    request_.output->Copy(
        name, [&](int64_t, std::span<const std::byte> rows) { CheckFinite(dtype, rows, name); });
  }

  void EmbedStream(const std::string& name, Stream& stream) {
    const CheckpointReader::TensorLocation& location = request_.checkpoint->Get(name);
    const Dtype dtype = location.entry.dtype;
    const int64_t row_bytes = config_.hidden * ElementBytes(dtype);
    for (const Batch& batch : stream.batches) {
      ThrowIfStopRequested(kHowToContinue);
      const MatrixView<float> hidden = stream.hidden.TakeEmpty(batch);
      ParallelFor(batch.rows, [&](int64_t i) {
        thread_local std::vector<std::byte> row;
        row.resize(static_cast<std::size_t>(row_bytes));
        const int32_t token = stream.tokens->tokens[static_cast<std::size_t>(batch.first_row + i)];
        request_.checkpoint->ReadPart(location, token * row_bytes, row);
        ConvertRow(dtype, row, hidden.RowSpan(i));
      });
      stream.hidden.Put(batch);
    }
    stream.hidden.Advance();
  }

  void RunLayer(LoadedLayer<T>& layer) {
    std::optional<LayerRanges> ranges;
    LayerHessians hessians;
    if (calibration_) {
      const PhaseTimer timer(result_.calibration_seconds);
      LayerCalibration<T> observer(MakeHessians(layer));
      result_.calibration_flops += Forward(layer, *calibration_, &observer);
      ranges = observer.Ranges(layer.spec());
      hessians = observer.TakeHessians();
    }
    if (stored_) Evaluate(layer, *stored_);
    if (!quantizing()) return;
    Quantize(layer, *ranges, std::move(hessians));
    if (pseudo_) Evaluate(layer, *pseudo_);
    if (deployed_) {
      DeployLayer(layer, *request_.scheme);
      Evaluate(layer, *deployed_);
    }
  }

  LayerHessians MakeHessians(const LoadedLayer<T>& layer) const {
    LayerHessians hessians;
    if (!quantizing() || request_.quantization->rounding != RoundingAlgorithm::kCompensated) {
      return hessians;
    }
    for (const LinearGroup group : kLinearGroups) {
      const LinearSpec& linear = layer.Linears(group).front().spec;
      if (request_.quantization->excluded.contains(linear.module)) continue;
      hessians[static_cast<std::size_t>(group)].emplace(
          linear.columns, request_.quantization->hessian_block_columns);
    }
    return hessians;
  }

  void Quantize(LoadedLayer<T>& layer, const LayerRanges& ranges, LayerHessians hessians) {
    const PhaseTimer timer(result_.quantization_seconds);
    CodeSink sink;
    if (request_.output != nullptr) {
      sink = [this](const LinearSpec& linear, int64_t first_row, std::span<const std::byte> codes) {
        request_.output->WriteCodes(linear, first_row, codes);
      };
    }
    result_.layers.push_back(
        QuantizeLayer(layer, ranges, std::move(hessians), *request_.quantization, sink));
    if (request_.output != nullptr) {
      request_.output->WriteRestOfLayer(layer.spec(), result_.layers.back());
    }
  }

  void Evaluate(const LoadedLayer<T>& layer, Stream& stream) {
    const PhaseTimer timer(result_.evaluation_seconds);
    result_.evaluation_flops += Forward(layer, stream, nullptr);
  }

  // Takes a stream through a layer; returns the operations that took.
  int64_t Forward(const LoadedLayer<T>& layer, Stream& stream, LayerCalibration<T>* observer) {
    int64_t flops = 0;
    for (const Batch& batch : stream.batches) {
      ThrowIfStopRequested(kHowToContinue);
      if (observer != nullptr) observer->BeginBatch(batch.first_row, batch.rows);
      ForwardLayer<T>(config_, rope_, layer.runnable(), batch.sequences, stream.hidden.Take(batch),
                      workspace_, observer);
      if (observer != nullptr) observer->EndBatch();
      stream.hidden.Put(batch);
      flops += batch.rows * LinearFlopsPerToken(config_);
      for (const Sequence& sequence : batch.sequences) {
        flops += CausalAttentionFlops(config_.heads, sequence.count);
      }
      progress_.Advance(batch.rows);
    }
    stream.hidden.Advance();
    return flops;
  }

  // The tensors after the last layer: copied to the output, and the losses computed.
  void FinishModel() {
    calibration_.reset();
    const ModelSpec model = request_.family->model(config_);
    if (request_.output != nullptr) CopyChecked(model.final_norm.name);
    const bool own_head = model.lm_head != model.embedding;
    if (!stored_) {
      if (request_.output != nullptr && own_head) CopyChecked(model.lm_head);
      return;
    }
    const PhaseTimer timer(result_.evaluation_seconds);
    const PackedMatrix<T> lm_head = LoadLmHead(model.lm_head, own_head);
    const std::vector<float> norm = ReadFloats(*request_.checkpoint, model.final_norm.name);
    CompareStreams(lm_head, norm);
  }

  PackedMatrix<T> LoadLmHead(const std::string& name, bool copy_to_output) {
    PackedMatrix<T> lm_head(config_.vocabulary, config_.hidden,
                            std::min(kVocabularySlice, config_.vocabulary));
    const Dtype dtype = request_.checkpoint->Get(name).entry.dtype;
    const int64_t row_bytes = config_.hidden * ElementBytes(dtype);
    AlignedBuffer<T> panel(lm_head.panel_rows() * config_.hidden);
    const auto pack = [&](int64_t first_row, std::span<const std::byte> rows) {
      CheckFinite(dtype, rows, name);
      const int64_t count = static_cast<int64_t>(rows.size()) / row_bytes;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = first_row + i;
        const int64_t in_panel = row % lm_head.panel_rows();
        ConvertRow(dtype,
                   rows.subspan(static_cast<std::size_t>(i * row_bytes),
                                static_cast<std::size_t>(row_bytes)),
                   std::span<T>(panel.data() + in_panel * config_.hidden,
                                static_cast<std::size_t>(config_.hidden)));
        if (in_panel + 1 == lm_head.panel_rows() || row + 1 == config_.vocabulary) {
          lm_head.PackPanel(row / lm_head.panel_rows(),
                            MatrixView<const T>(panel.data(), in_panel + 1, config_.hidden));
        }
      }
    };
    if (request_.output != nullptr && copy_to_output) {
      request_.output->Copy(name, pack);
    } else {
      ReadInChunks(*request_.checkpoint, name, kReadChunkBytes, pack);
    }
    return lm_head;
  }

  // Losses of every evaluated token, and what quantization did to them.
  void CompareStreams(const PackedMatrix<T>& lm_head, const std::vector<float>& norm) {
    std::vector<Stream*> variants;
    if (pseudo_) variants.push_back(&*pseudo_);
    if (deployed_) variants.push_back(&*deployed_);
    const auto tokens = static_cast<std::size_t>(stored_->tokens->size());
    std::vector<TokenOutcome> original(tokens);
    std::vector<std::vector<TokenOutcome>> compared(variants.size(),
                                                    std::vector<TokenOutcome>(tokens));
    progress_.BeginPhase("Losses", stored_->tokens->size(), "tokens");
    for (const Batch& batch : stored_->batches) {
      ThrowIfStopRequested(kHowToContinue);
      CompareBatch(lm_head, norm, batch, variants, original, compared);
      progress_.Advance(batch.rows);
    }
    progress_.EndPhase();
    result_.evaluation_flops += (1 + static_cast<int64_t>(variants.size())) * 2 *
                                stored_->tokens->size() * config_.hidden * config_.vocabulary;
    for (const Sequence& sequence : stored_->tokens->sequences) {
      const auto outcomes = PredictedTokens(original, sequence);
      const double sum = std::accumulate(
          outcomes.begin(), outcomes.end(), 0.0,
          [](double total, const TokenOutcome& outcome) { return total + outcome.nll; });
      result_.stored_window_nll.push_back(sum / static_cast<double>(outcomes.size()));
    }
    for (std::size_t v = 0; v < variants.size(); ++v) {
      std::vector<WindowOutcomes> windows;
      for (const Sequence& sequence : stored_->tokens->sequences) {
        windows.push_back(
            {PredictedTokens(original, sequence), PredictedTokens(compared[v], sequence)});
      }
      (variants[v]->name == kPseudoStream ? result_.pseudo : result_.deployed) =
          SummarizeDivergence(windows, kWorstTokens);
    }
  }

  // The last token of a window has no target in it.
  static std::span<const TokenOutcome> PredictedTokens(const std::vector<TokenOutcome>& outcomes,
                                                       const Sequence& sequence) {
    return std::span(outcomes).subspan(static_cast<std::size_t>(sequence.first),
                                       static_cast<std::size_t>(sequence.count - 1));
  }

  void CompareBatch(const PackedMatrix<T>& lm_head, const std::vector<float>& norm,
                    const Batch& batch, const std::vector<Stream*>& variants,
                    std::span<TokenOutcome> original,
                    std::vector<std::vector<TokenOutcome>>& compared) {
    const MatrixView<float> original_hidden = stored_->hidden.Take(batch);
    std::vector<MatrixView<float>> hidden;
    for (Stream* variant : variants) hidden.push_back(variant->hidden.Take(batch));
    ParallelFor(DivideRoundUp(batch.rows, kLossTileRows), [&](int64_t tile) {
      const int64_t first = tile * kLossTileRows;
      const int64_t rows = std::min(kLossTileRows, batch.rows - first);
      const auto outcomes_of = [&](std::span<TokenOutcome> all) {
        return all.subspan(static_cast<std::size_t>(batch.first_row + first),
                           static_cast<std::size_t>(rows));
      };
      AlignedBuffer<T> memory((1 + static_cast<int64_t>(hidden.size())) * rows * config_.hidden);
      int64_t used = 0;
      const auto normed = [&](MatrixView<float> states) {
        const MatrixView<T> view(memory.data() + used, rows, config_.hidden);
        used += rows * config_.hidden;
        RmsNorm<T>(states.RowBlock(first, rows), norm, config_.norm_epsilon, view);
        return MatrixView<const T>(view);
      };
      const MatrixView<const T> original_normed = normed(original_hidden);
      std::vector<MatrixView<const T>> variant_normed;
      std::vector<std::span<TokenOutcome>> variant_outcomes;
      for (std::size_t v = 0; v < hidden.size(); ++v) {
        variant_normed.push_back(normed(hidden[v]));
        variant_outcomes.push_back(outcomes_of(compared[v]));
      }
      CompareTokens<T>(lm_head, original_normed, variant_normed, Targets(batch, first, rows),
                       outcomes_of(original), variant_outcomes);
    });
  }

  // The token after each row; of the last row of all, any.
  std::vector<int32_t> Targets(const Batch& batch, int64_t first, int64_t rows) const {
    std::vector<int32_t> targets(static_cast<std::size_t>(rows));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t next = std::min(batch.first_row + first + i + 1, stored_->tokens->size() - 1);
      targets[static_cast<std::size_t>(i)] =
          stored_->tokens->tokens[static_cast<std::size_t>(next)];
    }
    return targets;
  }

  const PassRequest& request_;
  const DecoderConfig& config_;
  ProgressSink& progress_;
  RopeTable rope_;
  BatchWorkspace<T> workspace_;
  std::chrono::steady_clock::time_point last_save_ = std::chrono::steady_clock::now();
  std::optional<Stream> calibration_;
  std::optional<Stream> stored_;    // the checkpoint as it is
  std::optional<Stream> pseudo_;    // quantized, every matrix at its own scale
  std::optional<Stream> deployed_;  // quantized, as vLLM runs it
  PassResult result_;
};

}  // namespace

PassResult RunStreamingPass(const PassRequest& request, ProgressSink& progress) {
  NARROW_CHECK(!request.quantization || request.calibration != nullptr);
  if (request.compute == ComputeType::kBfloat16) return Pass<Bfloat16>(request, progress).Run();
  return Pass<float>(request, progress).Run();
}

}  // namespace narrow
