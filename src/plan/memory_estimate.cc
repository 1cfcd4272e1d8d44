#include <algorithm>
#include <array>
#include <optional>

#include "evaluation/token_comparison.h"
#include "model/experts.h"
#include "model/loaded_layer.h"
#include "plan/memory_plan.h"
#include "quantization/layer_probe.h"
#include "stream/head_packer.h"
#include "stream/layer_units.h"
#include "stream/losses.h"
#include "stream/token_positions.h"

namespace narrow {
namespace {

// What the parts below do not count: allocator slack, oneDNN's compiled kernels, thread stacks.
constexpr int64_t kSlackBytes = int64_t{64} << 20;
constexpr int64_t kSlackBytesPerThread = int64_t{8} << 20;

int64_t Streams(const JobShape& shape) {
  return shape.evaluation_tokens > 0 ? 1 + shape.evaluation_variants : 0;
}

// Adds up what the parts of a job say they hold.
class Estimator {
 public:
  Estimator(const JobShape& shape, const std::vector<LayerSpec>& kinds, const PassPlan& plan,
            int64_t hessian_block_columns)
      : shape_(shape),
        config_(shape.config),
        plan_(plan),
        options_(OptionsOf(shape, hessian_block_columns)),
        // Whole sequences, and never more than a text has.
        batch_rows_(std::min(std::max(plan.batch_rows, shape.longest_sequence),
                             std::max(shape.calibration_tokens, shape.evaluation_tokens))) {
    for (const LayerSpec& kind : kinds) {
      Kind& added = kinds_.emplace_back(Kind{&kind, {}, 0});
      if (!kind.experts) continue;
      added.expert = ExpertLayer(kind, 0);
      added.together = ExpertsTogether(kind, shape.compute, &options_, plan.expert_bytes);
    }
  }

  MemoryEstimate Estimate() const {
    MemoryEstimate estimate = {EmbeddingParts(), LayerParts(), HeadParts()};
    estimate.peak_bytes =
        std::max({Total(estimate.embedding), Total(estimate.layers), Total(estimate.head)});
    return estimate;
  }

 private:
  // A layer like others of the model.
  struct Kind {
    const LayerSpec* layer = nullptr;
    std::optional<LayerSpec> expert;
    int64_t together = 0;  // experts
  };

  bool spills() const { return plan_.hidden_states == Placement::kFile; }
  int64_t HiddenBytes(int64_t rows) const { return HiddenStore::Bytes(rows, config_.hidden); }

  // Embedding and head as they pass by; those of an FP8 checkpoint stay in two bytes or more.
  int64_t TableChunkBytes() const {
    return ChunkBytes(config_.vocabulary * config_.hidden *
                      std::max<int64_t>(2, ElementBytes(shape_.stored)));
  }

  template <typename Bytes>
  int64_t LargestOf(const Bytes& bytes) const {
    int64_t largest = 0;
    for (const Kind& kind : kinds_) largest = std::max(largest, bytes(kind));
    return largest;
  }

  // The threads keep those of layers and those of experts.
  int64_t AllTileBytes() const {
    const int64_t layers =
        LargestOf([&](const Kind& kind) { return TileBytes(*kind.layer, shape_.compute); });
    const int64_t experts = LargestOf([&](const Kind& kind) {
      return kind.expert ? ExpertTileBytes(*kind.expert, shape_.compute) : 0;
    });
    return shape_.threads * (layers + experts);
  }

  // The next unit, as stored.
  int64_t AheadBytes() const {
    const int64_t elements = LargestOf([](const Kind& kind) {
      const int64_t experts = kind.expert ? kind.together * LayerWeightCount(*kind.expert) : 0;
      return std::max(LayerWeightCount(*kind.layer), experts);
    });
    return std::min(plan_.read_ahead_bytes, elements * ElementBytes(shape_.stored));
  }

  // What every phase holds.
  std::vector<MemoryPart> BaseParts() const {
    std::vector<MemoryPart> parts = {
        {MemoryUse::kProgram, shape_.resident_before_bytes},
        {MemoryUse::kSlack, kSlackBytes + shape_.threads * kSlackBytesPerThread}};
    if (KeepsTiedHead(shape_, plan_)) {
      parts.push_back({MemoryUse::kHead, HeadBytes(shape_, config_.vocabulary)});
    }
    return parts;
  }

  std::vector<MemoryPart> EmbeddingParts() const {
    std::vector<MemoryPart> parts = BaseParts();
    const int64_t tokens = shape_.calibration_tokens + shape_.evaluation_tokens +
                           shape_.probe_tokens + AttributionTokens(shape_);
    parts.push_back({MemoryUse::kHiddenStates,
                     spills() ? HiddenBytes(shape_.threads) : HiddenStateBytes(shape_)});
    parts.push_back({MemoryUse::kTokenPlaces, TokenPositions::Bytes(tokens)});
    parts.push_back({MemoryUse::kStoredEmbedding, TableChunkBytes()});
    if (KeepsTiedHead(shape_, plan_)) {
      parts.push_back({MemoryUse::kHeadPacking, HeadPanelBytes(config_, shape_.compute)});
    }
    return parts;
  }

  // Of the stage that takes most: a layer without its experts, or experts of one.
  std::vector<MemoryPart> LayerParts() const {
    std::vector<MemoryPart> largest;
    const auto keep = [&](std::vector<MemoryPart> parts) {
      if (Total(parts) > Total(largest)) largest = std::move(parts);
    };
    for (const Kind& kind : kinds_) {
      keep(PartsOf(*kind.layer));
      if (kind.expert) keep(PartsOfExperts(kind));
    }
    return largest;
  }

  // What every stage holds. `rewriting`: packing and rewriting beside the statistics.
  std::vector<MemoryPart> StageParts(int64_t packed, int64_t rewriting, int64_t statistics) const {
    // What has spilled is in memory only while a layer takes it along, one batch of one text
    // through one version of the model; experts take along what they read and what they add to.
    const int64_t spilled = (config_.experts.count > 0 ? 2 : 1) *
                                HiddenBytes(std::max(batch_rows_, shape_.probe_tokens)) +
                            RouteBytes(shape_);
    std::vector<MemoryPart> parts = BaseParts();
    parts.insert(parts.end(),
                 {{MemoryUse::kLayer, packed},
                  {MemoryUse::kRewriting, rewriting},
                  {MemoryUse::kReadAhead, AheadBytes()},
                  {MemoryUse::kHiddenStates, spills() ? spilled : HiddenStateBytes(shape_)},
                  {MemoryUse::kBatch, LargestOf([&](const Kind& kind) {
                     return WorkspaceBytes(*kind.layer, batch_rows_, shape_.compute);
                   })},
                  {MemoryUse::kTiles, AllTileBytes()},
                  {MemoryUse::kStatistics, statistics}});
    if (KeepsStoredWeights(shape_)) parts.push_back({MemoryUse::kStoredLayer, AheadBytes()});
    return parts;
  }

  // A layer is packed before there are statistics.
  int64_t RewritingBeside(const LayerSpec& layer, int64_t statistics) const {
    return std::max(
        RewritingBytes(layer, shape_.compute) + (shape_.schemes ? SchemeRewritingBytes(layer) : 0),
        PackingBytes(layer, shape_.compute) - statistics);
  }

  std::vector<MemoryPart> PartsOf(const LayerSpec& layer) const {
    const QuantizationBytes quantization =
        BytesToQuantize(layer, options_, batch_rows_, shape_.compute, shape_.threads);
    const int64_t statistics = quantization.second_order + quantization.batch;
    std::vector<MemoryPart> parts = StageParts(PackedLayerBytes(layer, shape_.compute),
                                               RewritingBeside(layer, statistics), statistics);
    parts.push_back({MemoryUse::kProbe, ProbeBytes(shape_.probe_tokens, config_.hidden)});
    parts.push_back({MemoryUse::kBasis, quantization.basis});
    return parts;
  }

  // One expert after the other collects its inputs, and is factored and rounded.
  std::vector<MemoryPart> PartsOfExperts(const Kind& kind) const {
    const int64_t rows =
        spills() ? batch_rows_
                 : std::min(std::max(kExpertBatchRows, batch_rows_), shape_.calibration_tokens);
    const QuantizationBytes one =
        BytesToQuantize(*kind.expert, options_, rows, shape_.compute, shape_.threads);
    const int64_t packed = PackedLayerBytes(*kind.expert, shape_.compute);
    const int64_t sums = ExpertBytes(*kind.layer, shape_.compute, &options_) - packed;
    const int64_t statistics = (kind.together - 1) * sums + one.second_order + one.batch;
    return StageParts(kind.together * packed, RewritingBeside(*kind.expert, statistics),
                      statistics);
  }

  std::vector<MemoryPart> HeadParts() const {
    std::vector<MemoryPart> parts = BaseParts();
    // The threads keep them when the layers are done.
    parts.push_back({MemoryUse::kLayerTiles, AllTileBytes()});
    if (shape_.evaluation_tokens == 0) {
      parts.push_back({MemoryUse::kStoredHead, TableChunkBytes()});
      return parts;
    }
    // The attribution compares its models with the original by themselves.
    const int64_t compared = std::max(Streams(shape_), 1 + shape_.attribution_variants);
    const int64_t norms = shape_.threads * LossNormBytes(compared, config_.hidden, shape_.compute);
    if (KeepsTiedHead(shape_, plan_)) {
      parts.push_back({MemoryUse::kNorms, norms});
    } else {
      const int64_t rows = HeadSliceRows(config_.vocabulary, plan_.head_slice_rows);
      parts.push_back({MemoryUse::kHead, HeadBytes(shape_, rows)});
      parts.push_back(
          {MemoryUse::kHeadPackingOrNorms,
           std::max(TableChunkBytes() + HeadPanelBytes(config_, shape_.compute), norms)});
    }
    const int64_t tokens = EvaluatedTokens(shape_) + AttributionTokens(shape_);
    parts.push_back({MemoryUse::kHiddenStates, ComparedHiddenBytes()});
    parts.push_back({MemoryUse::kLogits, shape_.threads * LossLogitBytes()});
    parts.push_back({MemoryUse::kTokenSums, LossTokenBytes(tokens)});
    return parts;
  }

  // Where the models are compared, a batch of each is there.
  int64_t ComparedHiddenBytes() const {
    if (!spills()) return HiddenBytes(EvaluatedTokens(shape_));
    const int64_t parts = AttributedTokens(shape_) > 0 ? shape_.attribution_variants : 0;
    return (Streams(shape_) + parts) * HiddenBytes(batch_rows_);
  }

  const JobShape& shape_;
  const DecoderConfig& config_;
  const PassPlan& plan_;
  const LayerQuantizationOptions options_;
  const int64_t batch_rows_;  // of the largest batch
  std::vector<Kind> kinds_;
};

}  // namespace

const char* Name(MemoryUse use) {
  static constexpr std::array kNames = {"program, tokenizer, texts",
                                        "allocator and compiled kernels",
                                        "hidden states",
                                        "places of tokens",
                                        "embedding, as stored",
                                        "packing lm_head",
                                        "layer, packed",
                                        "packing and rewriting",
                                        "next layer, read ahead",
                                        "batch: q, k, v and attention",
                                        "tiles: norm, gate, up, activation",
                                        "outputs of the probe",
                                        "second-order statistics",
                                        "basis of the heads",
                                        "layer, as stored",
                                        "tiles of the layers",
                                        "lm_head, packed",
                                        "lm_head, as stored",
                                        "norms of tiles",
                                        "packing lm_head; norms of tiles",
                                        "tiles: logits",
                                        "sums and outcomes of tokens"};
  static_assert(kNames.size() == static_cast<std::size_t>(MemoryUse::kTokenSums) + 1);
  return kNames[static_cast<std::size_t>(use)];
}

MemoryEstimate EstimateMemory(const JobShape& shape, const std::vector<LayerSpec>& kinds,
                              const PassPlan& plan, int64_t hessian_block_columns) {
  return Estimator(shape, kinds, plan, hessian_block_columns).Estimate();
}

}  // namespace narrow
