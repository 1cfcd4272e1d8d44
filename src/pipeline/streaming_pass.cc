#include "pipeline/streaming_pass.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <numeric>
#include <utility>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "evaluation/token_loss.h"
#include "kernels/elementwise.h"
#include "pipeline/layer_weights.h"
#include "pipeline/range_recorder.h"

namespace narrow {
namespace {

// Rows a layer processes together: enough for every thread to have several tiles.
constexpr int64_t kBatchRows = 4096;
constexpr int64_t kReadChunkBytes = int64_t{32} << 20;

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
    Embed();
    progress_.BeginPhase(PhaseName(), TotalWork(), "layer-tokens");
    std::future<StoredLayer> next = ReadAhead(0);
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      StoredLayer stored = next.get();
      if (layer + 1 < config_.layers) next = ReadAhead(layer + 1);
      RunLayer(std::move(stored));
    }
    progress_.EndPhase();
    FinishModel();
    return std::move(result_);
  }

 private:
  // Hidden states of one text on their way through one version of the model.
  struct Stream {
    const TokenStream* tokens = nullptr;
    std::vector<Batch> batches;
    HiddenStates hidden;

    Stream(const TokenStream& stream, int64_t width)
        : tokens(&stream),
          batches(MakeBatches(stream, kBatchRows)),
          hidden(stream.size(), width) {}
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
    if (calibration_) tokens += calibration_->tokens->size();
    if (stored_) tokens += stored_->tokens->size();
    if (quantized_) tokens += quantized_->tokens->size();
    return tokens * config_.layers;
  }

  std::future<StoredLayer> ReadAhead(int64_t layer) const {
    return std::async(std::launch::async, [this, layer] {
      return ReadLayer(*request_.checkpoint, *request_.family, config_, layer);
    });
  }

  // Fills the hidden states of every stream with the embeddings of its tokens; the embedding is read
  // once, in chunks, and copied to the output on the way.
  void Embed() {
    if (request_.calibration != nullptr) calibration_.emplace(*request_.calibration, config_.hidden);
    if (request_.evaluation != nullptr) {
      stored_.emplace(*request_.evaluation, config_.hidden);
      if (quantizing()) quantized_.emplace(*request_.evaluation, config_.hidden);
    }
    const std::string name = request_.family->model(config_).embedding;
    const Dtype dtype = request_.checkpoint->Get(name).entry.dtype;
    const auto fill = [&](int64_t first_row, std::span<const std::byte> rows) {
      for (auto* stream : {&calibration_, &stored_, &quantized_}) {
        if (*stream) EmbedChunk(dtype, first_row, rows, **stream);
      }
    };
    if (request_.output != nullptr) {
      request_.output->Copy(name, fill);
    } else {
      ReadInChunks(*request_.checkpoint, name, kReadChunkBytes, fill);
    }
  }

  void EmbedChunk(Dtype dtype, int64_t first_row, std::span<const std::byte> rows, Stream& stream) {
    const int64_t row_bytes = config_.hidden * ElementBytes(dtype);
    const int64_t count = static_cast<int64_t>(rows.size()) / row_bytes;
    const MatrixView<float> hidden = stream.hidden.view();
    ParallelFor(DivideRoundUp(hidden.rows, kBatchRows), [&](int64_t block) {
      const int64_t end = std::min(hidden.rows, (block + 1) * kBatchRows);
      for (int64_t i = block * kBatchRows; i < end; ++i) {
        const int64_t row = stream.tokens->tokens[static_cast<std::size_t>(i)] - first_row;
        if (row < 0 || row >= count) continue;
        ConvertRow(dtype,
                   rows.subspan(static_cast<std::size_t>(row * row_bytes),
                                static_cast<std::size_t>(row_bytes)),
                   hidden.RowSpan(i));
      }
    });
  }

  void RunLayer(StoredLayer stored) {
    std::optional<LayerRanges> ranges;
    {
      const DecoderLayer<T> layer = PackLayer<T>(stored, *request_.scheme);
      if (calibration_) {
        const PhaseTimer timer(result_.calibration_seconds);
        RangeRecorder<T> recorder;
        result_.calibration_flops += Forward(layer, *calibration_, &recorder);
        ranges = recorder.Ranges(stored.spec);
      }
      if (stored_) {
        const PhaseTimer timer(result_.evaluation_seconds);
        result_.evaluation_flops += Forward(layer, *stored_, nullptr);
      }
    }
    if (!quantizing()) return;
    {
      const PhaseTimer timer(result_.quantization_seconds);
      result_.layers.push_back(
          QuantizeLayer(stored, ranges.value(), request_.quantization.value()));
      if (request_.output != nullptr) request_.output->WriteLayer(stored);
    }
    if (quantized_) {
      const PhaseTimer timer(result_.evaluation_seconds);
      const DecoderLayer<T> layer = PackLayer<T>(stored, *request_.scheme);
      result_.evaluation_flops += Forward(layer, *quantized_, nullptr);
    }
  }

  // Takes a stream through a layer; returns the operations that took.
  int64_t Forward(const DecoderLayer<T>& layer, Stream& stream, LayerObserver<T>* observer) {
    int64_t flops = 0;
    for (const Batch& batch : stream.batches) {
      ForwardLayer<T>(config_, rope_, layer, batch.sequences,
                      stream.hidden.view().RowBlock(batch.first_row, batch.rows), workspace_,
                      observer);
      flops += batch.rows * LinearFlopsPerToken(config_);
      for (const Sequence& sequence : batch.sequences) {
        flops += CausalAttentionFlops(config_.heads, sequence.count);
      }
      progress_.Advance(batch.rows);
    }
    return flops;
  }

  // The tensors after the last layer: copied to the output, and the losses computed.
  void FinishModel() {
    calibration_.reset();
    const ModelSpec model = request_.family->model(config_);
    if (request_.output != nullptr) request_.output->Copy(model.final_norm.name, {});
    const bool own_head = model.lm_head != model.embedding;
    if (!stored_) {
      if (request_.output != nullptr && own_head) request_.output->Copy(model.lm_head, {});
      return;
    }
    const PhaseTimer timer(result_.evaluation_seconds);
    const PackedMatrix<T> lm_head = LoadLmHead(model.lm_head, own_head);
    const std::vector<float> norm = ReadFloats(*request_.checkpoint, model.final_norm.name);
    const int64_t streams = quantized_ ? 2 : 1;
    progress_.BeginPhase("Losses", streams * stored_->tokens->size(), "tokens");
    result_.stored_window_nll = WindowLosses(lm_head, norm, *stored_);
    if (quantized_) result_.quantized_window_nll = WindowLosses(lm_head, norm, *quantized_);
    progress_.EndPhase();
  }

  PackedMatrix<T> LoadLmHead(const std::string& name, bool copy_to_output) {
    PackedMatrix<T> lm_head(config_.vocabulary, config_.hidden,
                            std::min(kVocabularySlice, config_.vocabulary));
    const Dtype dtype = request_.checkpoint->Get(name).entry.dtype;
    const int64_t row_bytes = config_.hidden * ElementBytes(dtype);
    AlignedBuffer<T> panel(lm_head.panel_rows() * config_.hidden);
    const auto pack = [&](int64_t first_row, std::span<const std::byte> rows) {
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

  std::vector<double> WindowLosses(const PackedMatrix<T>& lm_head, const std::vector<float>& norm,
                                   Stream& stream) {
    const MatrixView<float> hidden = stream.hidden.view();
    std::vector<double> nll(static_cast<std::size_t>(hidden.rows));
    const std::vector<int32_t>& tokens = stream.tokens->tokens;
    const int64_t tiles = DivideRoundUp(hidden.rows, kLossTileRows);
    // Tiles ignore where windows end: the last token of a window gets the next window's first token as
    // its target, and that loss is left out of the mean.
    const int64_t tiles_at_once = 4 * ThreadCount();
    for (int64_t first_tile = 0; first_tile < tiles; first_tile += tiles_at_once) {
      const int64_t count = std::min(tiles_at_once, tiles - first_tile);
      ParallelFor(count, [&](int64_t t) {
        const int64_t first = (first_tile + t) * kLossTileRows;
        const int64_t rows = std::min(kLossTileRows, hidden.rows - first);
        AlignedBuffer<T> normed(rows * config_.hidden);
        const MatrixView<T> view(normed.data(), rows, config_.hidden);
        RmsNorm<T>(hidden.RowBlock(first, rows), norm, config_.norm_epsilon, view);
        std::vector<int32_t> targets(static_cast<std::size_t>(rows));
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t next = std::min(first + i + 1, hidden.rows - 1);
          targets[static_cast<std::size_t>(i)] = tokens[static_cast<std::size_t>(next)];
        }
        TokenLosses<T>(lm_head, view, targets,
                       std::span(nll).subspan(static_cast<std::size_t>(first),
                                              static_cast<std::size_t>(rows)));
      });
      progress_.Advance(std::min(count * kLossTileRows, hidden.rows - first_tile * kLossTileRows));
    }
    result_.evaluation_flops += 2 * hidden.rows * config_.hidden * config_.vocabulary;
    std::vector<double> windows;
    for (const Sequence& sequence : stream.tokens->sequences) {
      const auto begin = nll.begin() + sequence.first;
      const double sum = std::accumulate(begin, begin + sequence.count - 1, 0.0);
      windows.push_back(sum / static_cast<double>(sequence.count - 1));
    }
    return windows;
  }

  const PassRequest& request_;
  const DecoderConfig& config_;
  ProgressSink& progress_;
  RopeTable rope_;
  BatchWorkspace<T> workspace_;
  std::optional<Stream> calibration_;
  std::optional<Stream> stored_;
  std::optional<Stream> quantized_;
  PassResult result_;
};

}  // namespace

PassResult RunStreamingPass(const PassRequest& request, ProgressSink& progress) {
  NARROW_CHECK(!request.quantization || request.calibration != nullptr);
  if (request.compute == ComputeType::kBfloat16) return Pass<Bfloat16>(request, progress).Run();
  return Pass<float>(request, progress).Run();
}

}  // namespace narrow
