#include "plan/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/checked_math.h"
#include "base/memory_use.h"
#include "base/parallel.h"
#include "evaluation/token_comparison.h"
#include "kernels/attention.h"
#include "kernels/feedback.h"
#include "kernels/matmul.h"
#include "model/loaded_layer.h"
#include "quantization/compensation/hessian.h"
#include "quantization/layer_probe.h"
#include "stream/losses.h"

namespace narrow {
namespace {

// What the parts below do not count: allocator slack, oneDNN's compiled kernels, thread stacks.
constexpr int64_t kSlackBytes = int64_t{64} << 20;
constexpr int64_t kSlackBytesPerThread = int64_t{8} << 20;
constexpr int64_t kFloatBytes = sizeof(float);
constexpr int64_t kMaxBatchRows = 4096;
constexpr int64_t kMinBatchRows = 512;
constexpr int64_t kMinBlockColumns = 512;
// Error-compensated rounding (quantization/compensation/rounding.cc): what a thread holds of a
// chunk of 128 rows (f32 weights and errors, codes), and of 16 rows while it gathers them.
constexpr int64_t kRoundingBytesPerColumn = 128 * (4 + 4 + 1) + 16 * 4;
constexpr int64_t kChunkBytes = int64_t{32} << 20;  // of embedding and head, as stored

int64_t ComputeBytes(const JobShape& shape) {
  return shape.compute == ComputeType::kBfloat16 ? 2 : 4;
}

int64_t Streams(const JobShape& shape) {
  return shape.evaluation_tokens > 0 ? 1 + shape.evaluation_variants : 0;
}

// The group with the largest matrix: its size bounds panels and rewriting.
int64_t LargestGroupBytes(const JobShape& shape) {
  const DecoderConfig& c = shape.config;
  const int64_t largest = std::max({c.hidden * c.query_key_value_width(),
                                    c.hidden * c.query_width(), 2 * c.hidden * c.intermediate});
  return largest * ComputeBytes(shape);
}

// Rows of the largest batch: whole sequences, and never more than a text has.
int64_t BatchRows(const JobShape& shape, const PassPlan& plan) {
  return std::min(std::max(plan.batch_rows, shape.longest_sequence),
                  std::max(shape.calibration_tokens, shape.evaluation_tokens));
}

// Threads round chunks of rows of one group at a time.
int64_t RoundingBytes(const JobShape& shape, int64_t columns) {
  const int64_t chunks =
      std::min(shape.threads, DivideRoundUp(RewriteRows(columns), kRoundingChunkRows));
  return chunks * columns * kRoundingBytesPerColumn;
}

// While a layer is packed: a panel as stored and as packed, but no second-order statistics yet.
// While it is rewritten: a panel, 64 MB of it as f32 and its codes.
int64_t StagingBytes(const JobShape& shape, int64_t statistics_bytes) {
  const int64_t group = LargestGroupBytes(shape);
  const int64_t panel = std::min<int64_t>(int64_t{128} << 20, group);
  const int64_t rewritten = panel + std::min<int64_t>(int64_t{80} << 20, 3 * group);
  return std::max(rewritten, 2 * panel - statistics_bytes);
}

// An accumulator of second moments of an input.
int64_t MomentBytes(const JobShape& shape, int64_t columns, int64_t block_columns) {
  return shape.compute == ComputeType::kBfloat16
             ? HessianAccumulator::Bytes<Bfloat16>(columns, block_columns)
             : HessianAccumulator::Bytes<float>(columns, block_columns);
}

int64_t HessianBytes(const JobShape& shape, int64_t block_columns) {
  if (shape.rounding != RoundingAlgorithm::kCompensated) return 0;
  const DecoderConfig& c = shape.config;
  // Group after group is factored, then rounded, then gone. From the last to the first:
  const int64_t inputs[] = {c.intermediate, c.hidden, c.query_width(), c.hidden};
  int64_t left = 0, peak = 0;
  for (const int64_t columns : inputs) {
    left += MomentBytes(shape, columns, block_columns);
    const int64_t block = block_columns == 0 ? columns : std::min(block_columns, columns);
    peak = std::max(peak, left + std::max(8 * block * block, RoundingBytes(shape, columns)));
  }
  return peak;
}

// Inputs of a batch, kept for the statistics of calibration; Q, K and V too where the basis of the
// heads is fitted. They are gone when the weights of o are summed up for that.
int64_t BatchInputBytes(const JobShape& shape, const PassPlan& plan) {
  const DecoderConfig& c = shape.config;
  const bool compensated = shape.rounding == RoundingAlgorithm::kCompensated;
  int64_t columns = compensated ? 2 * c.hidden + c.query_width() + c.intermediate : 0;
  int64_t weight_moments = 0;
  if (FitsHeadBasis(shape)) {
    columns += c.key_value_width() +
               DivideRoundUp(c.query_width() + c.key_value_width(), kKeyBasisTokenStride) +
               (compensated ? 0 : c.query_width());
    weight_moments = HessianAccumulator::Bytes<float>(c.query_width(), c.heads.head_size);
  }
  return std::max(BatchRows(shape, plan) * columns * ComputeBytes(shape), weight_moments);
}

// Sums over K and Q, V, and the input of o where no other statistics have them.
int64_t BasisBytes(const JobShape& shape) {
  if (!FitsHeadBasis(shape)) return 0;
  const DecoderConfig& c = shape.config;
  const bool compensated = shape.rounding == RoundingAlgorithm::kCompensated;
  return KeyBasisStatistics::Bytes(c.heads) +
         MomentBytes(shape, c.key_value_width(), c.heads.head_size) +
         (compensated ? 0 : MomentBytes(shape, c.query_width(), c.heads.head_size));
}

int64_t EvaluationHiddenBytes(const JobShape& shape) {
  return (Streams(shape) * shape.evaluation_tokens + AttributedTokens(shape)) *
         shape.config.hidden * kFloatBytes;
}

// One batch of hidden states.
int64_t BatchHiddenBytes(const JobShape& shape, const PassPlan& plan) {
  return BatchRows(shape, plan) * shape.config.hidden * kFloatBytes;
}

int64_t ProbeRowBytes(const JobShape& shape) {
  return shape.probe_tokens * shape.config.hidden * kFloatBytes;
}

// While layers run; what has spilled is in memory only while a layer takes it along, one batch of
// one text through one version of the model.
int64_t HiddenBytes(const JobShape& shape, const PassPlan& plan) {
  if (plan.hidden_states == Placement::kMemory) return HiddenStateBytes(shape);
  return std::max(BatchHiddenBytes(shape, plan), ProbeRowBytes(shape));
}

// While losses are computed: where the models are compared, a batch of each is there.
int64_t EvaluatedHiddenBytes(const JobShape& shape, const PassPlan& plan) {
  if (plan.hidden_states == Placement::kMemory) return EvaluationHiddenBytes(shape);
  const int64_t parts = AttributedTokens(shape) > 0 ? shape.attribution_variants : 0;
  return (Streams(shape) + parts) * BatchHiddenBytes(shape, plan);
}

int64_t ChunkBytes(const JobShape& shape) {
  // Embedding and head of an FP8 checkpoint stay in two bytes or more.
  const int64_t element = std::max<int64_t>(2, ElementBytes(shape.stored));
  return std::min(kChunkBytes, shape.config.vocabulary * shape.config.hidden * element);
}

bool Ties(const JobShape& shape) {
  return shape.config.lm_head == DecoderConfig::LmHead::kTied && shape.evaluation_tokens > 0;
}

int64_t PackedHeadBytes(const JobShape& shape, int64_t rows) {
  return rows * shape.config.hidden * ComputeBytes(shape);
}

int64_t PackedPanelBytes(const JobShape& shape) {
  return PackedHeadBytes(shape, std::min(kVocabularySlice, shape.config.vocabulary));
}

// What a thread holds of the output of the widest panel. q/k/v and gate/up are stored as operands,
// the others are added to the hidden states.
int64_t PanelOutputBytes(const JobShape& shape) {
  const DecoderConfig& c = shape.config;
  const auto bytes = [&](int64_t rows, int64_t columns, int64_t output_bytes) {
    return shape.compute == ComputeType::kBfloat16
               ? PackedMatrix<Bfloat16>::ThreadBytes(rows, columns, TileRows(c), output_bytes)
               : PackedMatrix<float>::ThreadBytes(rows, columns, TileRows(c), output_bytes);
  };
  const int64_t stored = std::max(bytes(c.query_key_value_width(), c.hidden, ComputeBytes(shape)),
                                  bytes(2 * c.intermediate, c.hidden, ComputeBytes(shape)));
  const int64_t added = std::max(bytes(c.hidden, c.query_width(), kFloatBytes),
                                 bytes(c.hidden, c.intermediate, kFloatBytes));
  // f32 operands share one buffer.
  return shape.compute == ComputeType::kBfloat16 ? stored + added : std::max(stored, added);
}

int64_t TileBytes(const JobShape& shape) {
  const DecoderConfig& c = shape.config;
  return shape.threads * (TileRows(c) * (c.hidden + 3 * c.intermediate) * ComputeBytes(shape) +
                          PanelOutputBytes(shape));
}

int64_t Total(const std::vector<MemoryPart>& parts) {
  return std::accumulate(parts.begin(), parts.end(), int64_t{0},
                         [](int64_t sum, const MemoryPart& part) { return sum + part.bytes; });
}

// What every phase holds.
std::vector<MemoryPart> BaseParts(const JobShape& shape, const PassPlan& plan) {
  std::vector<MemoryPart> parts = {
      {"program, tokenizer, texts", shape.resident_before_bytes},
      {"allocator and compiled kernels", kSlackBytes + shape.threads * kSlackBytesPerThread}};
  if (KeepsTiedHead(shape, plan)) {
    parts.push_back({"lm_head, packed", PackedHeadBytes(shape, shape.config.vocabulary)});
  }
  return parts;
}

std::vector<MemoryPart> EmbeddingParts(const JobShape& shape, const PassPlan& plan) {
  std::vector<MemoryPart> parts = BaseParts(shape, plan);
  const int64_t tokens = shape.calibration_tokens + shape.evaluation_tokens + shape.probe_tokens +
                         std::min(shape.attribution_tokens, shape.evaluation_tokens);
  parts.push_back({"hidden states", plan.hidden_states == Placement::kMemory
                                        ? HiddenStateBytes(shape)
                                        : shape.threads * shape.config.hidden * kFloatBytes});
  parts.push_back({"places of tokens", tokens * static_cast<int64_t>(sizeof(int64_t))});
  parts.push_back({"embedding, as stored", ChunkBytes(shape)});
  if (KeepsTiedHead(shape, plan)) {
    parts.push_back({"packing lm_head", PackedPanelBytes(shape)});
  }
  return parts;
}

std::vector<MemoryPart> LayerParts(const JobShape& shape, const PassPlan& plan,
                                   int64_t hessian_block_columns) {
  const DecoderConfig& c = shape.config;
  const int64_t weights = LayerWeightCount(c);
  const int64_t stored = weights * ElementBytes(shape.stored);
  const int64_t statistics =
      HessianBytes(shape, hessian_block_columns) + BatchInputBytes(shape, plan);
  std::vector<MemoryPart> parts = BaseParts(shape, plan);
  const auto add = [&](const char* what, int64_t bytes) { parts.push_back({what, bytes}); };
  add("layer, packed", weights * ComputeBytes(shape));
  add("packing and rewriting", StagingBytes(shape, statistics));
  add("next layer, read ahead", std::min(plan.read_ahead_bytes, stored));
  add("hidden states", HiddenBytes(shape, plan));
  add("batch: q, k, v and attention",
      BatchRows(shape, plan) * (c.query_key_value_width() + c.query_width()) * ComputeBytes(shape));
  add("tiles: norm, gate, up, activation", TileBytes(shape));
  add("outputs of the probe", kProbeOutputs * ProbeRowBytes(shape));
  add("second-order statistics", statistics);
  add("basis of the heads", BasisBytes(shape));
  if (KeepsStoredWeights(shape)) {
    add("layer, as stored", std::min(plan.read_ahead_bytes, stored));
  }
  return parts;
}

std::vector<MemoryPart> HeadParts(const JobShape& shape, const PassPlan& plan) {
  const DecoderConfig& c = shape.config;
  std::vector<MemoryPart> parts = BaseParts(shape, plan);
  const auto add = [&](const char* what, int64_t bytes) { parts.push_back({what, bytes}); };
  // The threads keep them when the layers are done.
  add("tiles of the layers", TileBytes(shape));
  if (shape.evaluation_tokens == 0) {
    add("lm_head, as stored", ChunkBytes(shape));
    return parts;
  }
  const int64_t streams = Streams(shape);
  const int64_t slice_rows = HeadSliceRows(c.vocabulary, plan.head_slice_rows);
  // The attribution compares its models with the original by themselves.
  const int64_t compared = std::max(streams, 1 + shape.attribution_variants);
  const int64_t norms = shape.threads * compared * kLossTileRows * c.hidden * ComputeBytes(shape);
  if (KeepsTiedHead(shape, plan)) {
    add("norms of tiles", norms);
  } else {
    add("lm_head, packed", PackedHeadBytes(shape, slice_rows));
    add("packing lm_head; norms of tiles",
        std::max(ChunkBytes(shape) + PackedPanelBytes(shape), norms));
  }
  add("hidden states", EvaluatedHiddenBytes(shape, plan));
  add("tiles: logits", shape.threads * kLossTileRows * 3 * kVocabularySlice * kFloatBytes);
  add("sums and outcomes of tokens",
      (streams * shape.evaluation_tokens + AttributedTokens(shape) +
       std::min(shape.attribution_tokens, shape.evaluation_tokens)) *
          static_cast<int64_t>(sizeof(NetworkState) + sizeof(TokenOutcome)));
  return parts;
}

}  // namespace

JobShape ShapeOf(const ModelSource& model, ComputeType compute,
                 const LayerQuantizationOptions* quantization, const TokenStream* calibration,
                 const TokenStream* evaluation) {
  JobShape shape;
  shape.config = model.config;
  shape.compute = compute;
  const LinearSpec linear = model.family->layer(model.config, 0).linears.front();
  shape.stored = model.checkpoint->Get(linear.weight()).entry.dtype;
  shape.threads = ThreadCount();
  for (const TokenStream* stream : {calibration, evaluation}) {
    if (stream != nullptr) {
      shape.longest_sequence = std::max(shape.longest_sequence, stream->longest());
    }
  }
  if (calibration != nullptr) shape.calibration_tokens = calibration->size();
  if (evaluation != nullptr) shape.evaluation_tokens = evaluation->size();
  if (quantization != nullptr) {
    shape.evaluation_variants = quantization->weight_scales == WeightScales::kPerMatrix ? 2 : 1;
    shape.rounding = quantization->rounding;
    shape.head_basis = quantization->head_basis;
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
  return shape.head_basis == HeadBasis::kFitted && CanChangeBasis(shape.config.heads);
}

bool KeepsTiedHead(const JobShape& shape, const PassPlan& plan) {
  return Ties(shape) && plan.tied_head == TiedHead::kKept;
}

bool KeepsStoredWeights(const JobShape& shape) {
  return shape.compute == ComputeType::kBfloat16 && ElementBytes(shape.stored) >= 2 &&
         shape.stored != Dtype::kBF16;
}

int64_t AttributedTokens(const JobShape& shape) {
  return shape.attribution_variants * std::min(shape.attribution_tokens, shape.evaluation_tokens);
}

int64_t HiddenStateBytes(const JobShape& shape) {
  return shape.calibration_tokens * shape.config.hidden * kFloatBytes + ProbeRowBytes(shape) +
         EvaluationHiddenBytes(shape);
}

MemoryEstimate EstimateMemory(const JobShape& shape, const PassPlan& plan,
                              int64_t hessian_block_columns) {
  MemoryEstimate estimate;
  estimate.embedding = EmbeddingParts(shape, plan);
  estimate.layers = LayerParts(shape, plan, hessian_block_columns);
  estimate.head = HeadParts(shape, plan);
  estimate.peak_bytes =
      std::max({Total(estimate.embedding), Total(estimate.layers), Total(estimate.head)});
  return estimate;
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
  const int64_t widest = std::max(shape.config.intermediate, shape.config.hidden);
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
  const int64_t layer_bytes = LayerWeightCount(config) * ElementBytes(shape.stored);
  for (const MemoryChoice& choice : Choices(shape)) {
    if (choice.estimate.peak_bytes > budget_bytes) continue;
    PassPlan plan = choice.plan;
    // What layers leave of the budget reads ahead; what losses leave makes larger slices.
    plan.read_ahead_bytes = std::min(
        (budget_bytes - Total(choice.estimate.layers)) / (KeepsStoredWeights(shape) ? 2 : 1),
        layer_bytes);
    const int64_t row_bytes = config.hidden * ComputeBytes(shape);
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
