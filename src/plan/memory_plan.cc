#include "plan/memory_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "base/checked_math.h"
#include "base/memory_use.h"
#include "base/parallel.h"
#include "evaluation/token_comparison.h"
#include "formats/quantized_weight.h"
#include "model/experts.h"
#include "model/loaded_layer.h"
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
constexpr int64_t kMaxBatchRows = 4096;
constexpr int64_t kMinBatchRows = 512;
constexpr int64_t kMinBlockColumns = 512;

int64_t Streams(const JobShape& shape) {
  return shape.evaluation_tokens > 0 ? 1 + shape.evaluation_variants : 0;
}

bool Ties(const JobShape& shape) {
  return shape.config.lm_head == DecoderConfig::LmHead::kTied && shape.evaluation_tokens > 0;
}

// Adds up what the parts of a job say they hold.
class Estimator {
 public:
  Estimator(const JobShape& shape, const PassPlan& plan, int64_t hessian_block_columns)
      : shape_(shape),
        config_(shape.config),
        plan_(plan),
        hessian_block_columns_(hessian_block_columns),
        layer_(shape.layer()),
        // Whole sequences, and never more than a text has.
        batch_rows_(std::min(std::max(plan.batch_rows, shape.longest_sequence),
                             std::max(shape.calibration_tokens, shape.evaluation_tokens))) {}

  MemoryEstimate Estimate() const {
    MemoryEstimate estimate = {EmbeddingParts(), LayerParts(), HeadParts()};
    estimate.peak_bytes =
        std::max({Total(estimate.embedding), Total(estimate.layers), Total(estimate.head)});
    return estimate;
  }

 private:
  bool spills() const { return plan_.hidden_states == Placement::kFile; }
  int64_t HiddenBytes(int64_t rows) const { return HiddenStore::Bytes(rows, config_.hidden); }

  // Embedding and head as they pass by; those of an FP8 checkpoint stay in two bytes or more.
  int64_t TableChunkBytes() const {
    return ChunkBytes(config_.vocabulary * config_.hidden *
                      std::max<int64_t>(2, ElementBytes(shape_.stored)));
  }

  int64_t AllTileBytes() const {
    int64_t each = TileBytes(layer_, shape_.compute);
    if (layer_.experts) each += ExpertTileBytes(ExpertLayer(layer_, 0), shape_.compute);
    return shape_.threads * each;
  }

  // Beyond their weights, what experts take that are in memory together.
  struct ExpertUnit {
    int64_t second_order = 0;
  };
  ExpertUnit ExpertUnitOf(const LayerQuantizationOptions& options) const {
    if (!layer_.experts) return {};
    const int64_t together = ExpertsTogether(layer_, shape_.compute, &options);
    const QuantizationBytes each = BytesToQuantize(ExpertLayer(layer_, 0), options, batch_rows_,
                                                   shape_.compute, shape_.threads);
    return {together * (each.second_order + each.batch)};
  }

  // What every phase holds.
  std::vector<MemoryPart> BaseParts() const {
    std::vector<MemoryPart> parts = {
        {MemoryUse::kProgram, shape_.resident_before_bytes},
        {MemoryUse::kSlack, kSlackBytes + shape_.threads * kSlackBytesPerThread}};
    if (KeepsTiedHead(shape_, plan_)) {
      parts.push_back(
          {MemoryUse::kHead, PackedHeadBytes(config_, config_.vocabulary, shape_.compute)});
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

  std::vector<MemoryPart> LayerParts() const {
    LayerQuantizationOptions options;
    options.rounding = shape_.rounding;
    options.head_basis = shape_.head_basis;
    options.schemes = shape_.schemes;
    options.hessian_block_columns = hessian_block_columns_;
    const QuantizationBytes quantization =
        BytesToQuantize(layer_, options, batch_rows_, shape_.compute, shape_.threads);
    const ExpertUnit experts = ExpertUnitOf(options);
    const int64_t statistics =
        std::max(quantization.second_order, experts.second_order) + quantization.batch;
    // What has spilled is in memory only while a layer takes it along, one batch of one text
    // through one version of the model.
    const int64_t hidden = spills() ? HiddenBytes(std::max(batch_rows_, shape_.probe_tokens))
                                    : HiddenStateBytes(shape_);
    const int64_t ahead =
        std::min(plan_.read_ahead_bytes, LargestUnitWeights(shape_) * ElementBytes(shape_.stored));
    std::vector<MemoryPart> parts = BaseParts();
    parts.insert(
        parts.end(),
        {{MemoryUse::kLayer, LargestUnitWeights(shape_) * OperandBytes(shape_.compute)},
         // A layer is packed before there are statistics.
         {MemoryUse::kRewriting, std::max(RewritingBytes(layer_, shape_.compute) +
                                              (shape_.schemes ? SchemeRewritingBytes(layer_) : 0),
                                          PackingBytes(layer_, shape_.compute) - statistics)},
         {MemoryUse::kReadAhead, ahead},
         {MemoryUse::kHiddenStates, hidden},
         {MemoryUse::kBatch, WorkspaceBytes(layer_, batch_rows_, shape_.compute)},
         {MemoryUse::kTiles, AllTileBytes()},
         {MemoryUse::kProbe, ProbeBytes(shape_.probe_tokens, config_.hidden)},
         {MemoryUse::kStatistics, statistics},
         {MemoryUse::kBasis, quantization.basis}});
    if (KeepsStoredWeights(shape_)) parts.push_back({MemoryUse::kStoredLayer, ahead});
    return parts;
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
      parts.push_back({MemoryUse::kHead, PackedHeadBytes(config_, rows, shape_.compute)});
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
  const int64_t hessian_block_columns_;
  const LayerSpec layer_;
  const int64_t batch_rows_;  // of the largest batch
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

LayerSpec JobShape::layer() const {
  std::vector<LayerSpec> layers = LayersOf(*family, config);
  const auto has = [](const LayerSpec& layer) { return layer.experts.has_value(); };
  if (std::ranges::any_of(layers, has)) std::erase_if(layers, std::not_fn(has));
  return *std::ranges::max_element(layers, {}, &LayerWeightCount);
}

int64_t Total(const std::vector<MemoryPart>& parts) {
  return std::accumulate(parts.begin(), parts.end(), int64_t{0},
                         [](int64_t sum, const MemoryPart& part) { return sum + part.bytes; });
}

namespace {

// Of a weight's numbers; codes take a byte at most, and packed ones are exact.
Dtype StoredType(const ModelSource& model, const LinearSpec& linear) {
  if (model.checkpoint == nullptr) return model.config.dtype;
  const auto* weight = FindWeight(*model.checkpoint, linear.module);
  const bool plain = weight != nullptr && Info(weight->entry.dtype).floating &&
                     ElementBytes(weight->entry.dtype) > 1;
  return plain ? weight->entry.dtype : Dtype::kF8E4M3;
}

}  // namespace

JobShape ShapeOf(const ModelSource& model, ComputeType compute,
                 const LayerQuantizationOptions* quantization, const TokenStream* calibration,
                 const TokenStream* evaluation) {
  JobShape shape;
  shape.family = model.family;
  shape.config = model.config;
  shape.compute = compute;
  shape.stored = StoredType(model, shape.layer().linears.front());
  shape.threads = ThreadCount();
  for (const TokenStream* stream : {calibration, evaluation}) {
    if (stream != nullptr) {
      shape.longest_sequence = std::max(shape.longest_sequence, stream->longest());
    }
  }
  if (calibration != nullptr) shape.calibration_tokens = calibration->size();
  if (evaluation != nullptr) shape.evaluation_tokens = evaluation->size();
  if (quantization != nullptr) {
    shape.own_weight_scales = quantization->weight_scales == WeightScales::kPerMatrix;
    shape.rounding = quantization->rounding;
    shape.head_basis = quantization->head_basis;
    shape.schemes = quantization->schemes;
  }
  shape.resident_before_bytes = CurrentResidentBytes();
  return shape;
}

int64_t DefaultMemoryBudget() { return AvailableMemoryBytes() / 5 * 4 + CurrentResidentBytes(); }

std::string DescribeChoice(const MemoryChoice& choice) {
  const std::string statistics =
      choice.hessian_block_columns == 0
          ? ""
          : fmt::format("; second-order statistics in blocks of {} columns",
                        choice.hessian_block_columns);
  const std::string head =
      choice.head_slices == 1
          ? ""
          : fmt::format("; lm_head in {} slices for the losses", choice.head_slices);
  const std::string embedding =
      choice.plan.tied_head == TiedHead::kKept ? "" : "; the embedding read again as lm_head";
  return fmt::format(
      "Memory: {:.2f} GiB at most; hidden states in {}; {} of the next layer read ahead{}",
      static_cast<double>(choice.estimate.peak_bytes) / 0x1p30,
      choice.plan.hidden_states == Placement::kMemory ? "memory" : "the work directory",
      choice.plan.read_ahead_bytes == 0 ? "nothing" : "weights", statistics + head + embedding);
}

int64_t HeadSlices(const DecoderConfig& config, const PassPlan& plan) {
  return DivideRoundUp(config.vocabulary, HeadSliceRows(config.vocabulary, plan.head_slice_rows));
}

bool FitsHeadBasis(const JobShape& shape) {
  const BasisFreedom freedom = FreedomToFit(shape.layer());
  return shape.head_basis == HeadBasis::kFitted && (freedom.keys || freedom.values);
}

bool KeepsTiedHead(const JobShape& shape, const PassPlan& plan) {
  return Ties(shape) && plan.tied_head == TiedHead::kKept;
}

bool KeepsStoredWeights(const JobShape& shape) {
  return !HoldsExactly(shape.compute, shape.stored);
}

int64_t AttributionTokens(const JobShape& shape) {
  return std::min(shape.attribution_tokens, shape.evaluation_tokens);
}

int64_t AttributedTokens(const JobShape& shape) {
  return shape.attribution_variants * AttributionTokens(shape);
}

int64_t EvaluatedTokens(const JobShape& shape) {
  return Streams(shape) * shape.evaluation_tokens + AttributedTokens(shape);
}

int64_t HiddenStateBytes(const JobShape& shape) {
  const int64_t tokens = shape.calibration_tokens + shape.probe_tokens + EvaluatedTokens(shape);
  const int64_t states = HiddenStore::Bytes(tokens, shape.config.hidden);
  if (shape.config.experts.count == 0) return states;
  // What experts read, and an index and a weight for each expert of a token.
  return 2 * states + tokens * shape.config.experts.per_token * 8;
}

MemoryEstimate EstimateMemory(const JobShape& shape, const PassPlan& plan,
                              int64_t hessian_block_columns) {
  return Estimator(shape, plan, hessian_block_columns).Estimate();
}

int64_t LargestUnitWeights(const JobShape& shape) {
  int64_t largest = 0;
  for (int64_t i = 0; i < shape.config.layers; ++i) {
    const LayerSpec layer = shape.family->layer(shape.config, i);
    largest = std::max(largest, LayerWeightCount(layer));
    if (!layer.experts) continue;
    const int64_t together = ExpertsTogether(layer, shape.compute, nullptr);
    largest = std::max(largest, together * LayerWeightCount(ExpertLayer(layer, 0)));
  }
  return largest;
}

int64_t WidestInput(const LayerSpec& layer) {
  return std::ranges::max_element(layer.linears, {}, &LinearSpec::columns)->columns;
}

namespace {

MemoryChoice MakeChoice(const JobShape& shape, const PassPlan& plan, int64_t block_columns) {
  MemoryChoice choice;
  choice.plan = plan;
  choice.hessian_block_columns = block_columns;
  const bool sliced = shape.evaluation_tokens > 0 && !KeepsTiedHead(shape, plan);
  choice.head_slices = sliced ? HeadSlices(shape.config, plan) : 1;
  choice.estimate = EstimateMemory(shape, choice.plan, block_columns);
  return choice;
}

// Every way to run, without reading ahead and with one panel of lm_head at a time. What costs least
// comes first: spilling costs disk traffic, small batches cost packing overhead, narrow blocks cost
// accuracy and come last.
std::vector<MemoryChoice> Choices(const JobShape& shape) {
  const bool compensated = shape.rounding == RoundingAlgorithm::kCompensated;
  const int64_t widest = WidestInput(shape.layer());
  std::vector<int64_t> blocks = {0};
  for (int64_t block = RoundUp(DivideRoundUp(widest, 2), 64);
       compensated && block >= kMinBlockColumns; block = RoundUp(DivideRoundUp(block, 2), 64)) {
    blocks.push_back(block);
  }
  const TiedHead tied_head = Ties(shape) ? TiedHead::kReadAgain : TiedHead::kKept;
  std::vector<MemoryChoice> choices;
  for (const int64_t block : blocks) {
    for (int64_t batch_rows = kMaxBatchRows; batch_rows >= kMinBatchRows; batch_rows /= 2) {
      for (const Placement placement : {Placement::kMemory, Placement::kFile}) {
        choices.push_back(
            MakeChoice(shape, {batch_rows, placement, 0, kVocabularySlice, tied_head}, block));
      }
    }
  }
  return choices;
}

}  // namespace

int64_t SmallestBudget(const JobShape& shape) {
  int64_t smallest = std::numeric_limits<int64_t>::max();
  for (const MemoryChoice& choice : Choices(shape)) {
    smallest = std::min(smallest, choice.estimate.peak_bytes);
  }
  return smallest;
}

MemoryChoice ChoosePassPlan(const JobShape& shape, int64_t budget_bytes) {
  const DecoderConfig& config = shape.config;
  const int64_t layer_bytes = LargestUnitWeights(shape) * ElementBytes(shape.stored);
  for (const MemoryChoice& choice : Choices(shape)) {
    if (choice.estimate.peak_bytes > budget_bytes) continue;
    PassPlan plan = choice.plan;
    // What layers leave of the budget reads ahead; what losses leave makes larger slices.
    plan.read_ahead_bytes = std::min(
        (budget_bytes - Total(choice.estimate.layers)) / (KeepsStoredWeights(shape) ? 2 : 1),
        layer_bytes);
    const int64_t row_bytes = PackedHeadBytes(config, 1, shape.compute);
    int64_t rows = (budget_bytes - Total(choice.estimate.head)) / row_bytes + kVocabularySlice;
    plan.head_slice_rows = HeadSliceRows(config.vocabulary, rows);
    PassPlan keeping = plan;
    keeping.tied_head = TiedHead::kKept;
    const MemoryChoice kept = MakeChoice(shape, keeping, choice.hessian_block_columns);
    return kept.estimate.peak_bytes <= budget_bytes
               ? kept
               : MakeChoice(shape, plan, choice.hessian_block_columns);
  }
  const double smallest =
      std::ceil(static_cast<double>(SmallestBudget(shape)) / 0x1p30 * 100) / 100;
  Fail(ErrorCode::kMemoryBudget,
       "the job needs at least {:.2f} GiB of memory, the budget is {:.2f} GiB; the smallest "
       "--memory_budget that would do is {:.2f}GiB; fewer --threads need less",
       smallest, static_cast<double>(budget_bytes) / 0x1p30, smallest);
}

}  // namespace narrow
