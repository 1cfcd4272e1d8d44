#include "plan/memory_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
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

constexpr int64_t kMaxBatchRows = 4096;
constexpr int64_t kMinBatchRows = 512;
constexpr int64_t kMinBlockColumns = 512;

int64_t Streams(const JobShape& shape) {
  return shape.evaluation_tokens > 0 ? 1 + shape.evaluation_variants : 0;
}

bool Ties(const JobShape& shape) {
  return shape.config.lm_head == DecoderConfig::LmHead::kTied && !shape.judged_own_head &&
         shape.evaluation_tokens > 0;
}

}  // namespace

LayerSpec JobShape::layer() const {
  std::vector<LayerSpec> layers = LayersOf(*family, config);
  const auto has = [](const LayerSpec& layer) { return layer.experts.has_value(); };
  if (std::ranges::any_of(layers, has)) std::erase_if(layers, std::not_fn(has));
  return *std::ranges::max_element(layers, {}, &LayerWeightCount);
}

std::vector<LayerSpec> JobShape::kinds() const {
  std::map<std::string, LayerSpec> kinds;
  for (LayerSpec& layer : LayersOf(*family, config)) {
    std::string key = layer.experts ? "experts" : "";
    for (const GroupSpec& group : GroupsOf(layer)) {
      key += fmt::format(" {} {} {}", static_cast<int>(group.id), group.rows, group.columns);
    }
    kinds.try_emplace(std::move(key), std::move(layer));
  }
  std::vector<LayerSpec> all;
  for (auto& [key, layer] : kinds) all.push_back(std::move(layer));
  return all;
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

int64_t HeadBytes(const JobShape& shape, int64_t rows) {
  return shape.checkpoints * PackedHeadBytes(shape.config, rows, shape.compute);
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
  return 2 * states + RouteBytes(shape);  // what experts read, too
}

int64_t RouteBytes(const JobShape& shape) {
  const int64_t tokens = shape.calibration_tokens + shape.probe_tokens + EvaluatedTokens(shape);
  return tokens * shape.config.experts.per_token * (sizeof(int32_t) + sizeof(float));
}

LayerQuantizationOptions OptionsOf(const JobShape& shape, int64_t hessian_block_columns) {
  LayerQuantizationOptions options;
  options.rounding = shape.rounding;
  options.head_basis = shape.head_basis;
  options.schemes = shape.schemes;
  options.hessian_block_columns = hessian_block_columns;
  return options;
}

namespace {

// Units of the experts of a layer.
int64_t ExpertUnits(const LayerSpec& layer, const JobShape& shape, const PassPlan& plan,
                    const LayerQuantizationOptions& options) {
  return DivideRoundUp(layer.experts->count,
                       ExpertsTogether(layer, shape.compute, &options, plan.expert_bytes));
}

}  // namespace

int64_t ExpertPasses(const JobShape& shape, const PassPlan& plan, int64_t hessian_block_columns) {
  if (shape.config.experts.count == 0) return 0;
  const bool twice = ReadsExpertsTwice(shape, plan, hessian_block_columns);
  return (twice ? 2 : 1) *
         ExpertUnits(shape.layer(), shape, plan, OptionsOf(shape, hessian_block_columns));
}

bool ReadsExpertsTwice(const JobShape& shape, const PassPlan& plan, int64_t hessian_block_columns) {
  if (shape.config.experts.count == 0 || shape.calibration_tokens == 0) return false;
  const LayerQuantizationOptions options = OptionsOf(shape, hessian_block_columns);
  const LayerSpec layer = shape.layer();
  return ExpertUnits(layer, shape, plan, options) > 1 && NeedsRangesOfAll(layer, &options);
}

int64_t WidestInput(const LayerSpec& layer) {
  return std::ranges::max_element(layer.linears, {}, &LinearSpec::columns)->columns;
}

namespace {

// Where hidden states are in memory, more experts together than these save nothing: all of a layer
// do, which are then read once.
constexpr int64_t kEnoughExpertBytes = int64_t{1} << 30;

class Chooser {
 public:
  explicit Chooser(const JobShape& shape) : shape_(shape), kinds_(shape.kinds()) {}

  MemoryChoice Make(const PassPlan& plan, int64_t block_columns) const {
    MemoryChoice choice;
    choice.plan = plan;
    choice.hessian_block_columns = block_columns;
    const bool sliced = shape_.evaluation_tokens > 0 && !KeepsTiedHead(shape_, plan);
    choice.head_slices = sliced ? HeadSlices(shape_.config, plan) : 1;
    choice.estimate = EstimateMemory(shape_, kinds_, plan, block_columns);
    return choice;
  }

  // Every way to run, with one expert and one panel of lm_head at a time and without reading ahead.
  // What costs least comes first: spilling costs disk traffic, small batches cost packing overhead,
  // narrow blocks cost accuracy and come last.
  std::vector<MemoryChoice> Choices() const {
    const bool compensated = shape_.rounding == RoundingAlgorithm::kCompensated;
    std::vector<int64_t> blocks = {0};
    for (int64_t block = RoundUp(DivideRoundUp(WidestInputOfAll(), 2), 64);
         compensated && block >= kMinBlockColumns; block = RoundUp(DivideRoundUp(block, 2), 64)) {
      blocks.push_back(block);
    }
    const TiedHead tied_head = Ties(shape_) ? TiedHead::kReadAgain : TiedHead::kKept;
    std::vector<MemoryChoice> choices;
    for (const int64_t block : blocks) {
      for (int64_t batch_rows = kMaxBatchRows; batch_rows >= kMinBatchRows; batch_rows /= 2) {
        for (const Placement placement : {Placement::kMemory, Placement::kFile}) {
          choices.push_back(
              Make({batch_rows, placement, 0, 0, kVocabularySlice, tied_head}, block));
        }
      }
    }
    return choices;
  }

  // What layers leave of the budget holds more experts, and reads ahead.
  void UseBudget(int64_t budget_bytes, const MemoryChoice& choice, PassPlan& plan) const {
    plan.expert_bytes = ExpertBytesWithin(budget_bytes, choice);
    plan.read_ahead_bytes = std::numeric_limits<int64_t>::max();
    const MemoryEstimate all = EstimateMemory(shape_, kinds_, plan, choice.hessian_block_columns);
    const int64_t ahead = PartOf(all.layers, MemoryUse::kReadAhead);
    const int64_t times = KeepsStoredWeights(shape_) ? 2 : 1;
    plan.read_ahead_bytes = 0;
    const MemoryEstimate none = EstimateMemory(shape_, kinds_, plan, choice.hessian_block_columns);
    plan.read_ahead_bytes = std::min((budget_bytes - Total(none.layers)) / times, ahead);
  }

 private:
  static int64_t PartOf(const std::vector<MemoryPart>& parts, MemoryUse use) {
    return std::ranges::find(parts, use, &MemoryPart::use)->bytes;
  }

  int64_t WidestInputOfAll() const {
    int64_t widest = 0;
    for (const LayerSpec& layer : kinds_) widest = std::max(widest, WidestInput(layer));
    return widest;
  }

  // Of as many as fit beside the next ones, as they are stored; of one where none do.
  int64_t ExpertBytesWithin(int64_t budget_bytes, const MemoryChoice& choice) const {
    const LayerQuantizationOptions options = OptionsOf(shape_, choice.hessian_block_columns);
    int64_t one = 0, all = 0;
    for (const LayerSpec& layer : kinds_) {
      if (!layer.experts) continue;
      one = std::max(one, ExpertBytes(layer, shape_.compute, &options));
      all = std::max(all, layer.experts->count);
    }
    PassPlan plan = choice.plan;
    plan.read_ahead_bytes = std::numeric_limits<int64_t>::max();
    int64_t low = 1, high = all;
    while (low < high) {
      const int64_t middle = low + (high - low + 1) / 2;
      plan.expert_bytes = middle * one;
      const MemoryEstimate estimate =
          EstimateMemory(shape_, kinds_, plan, choice.hessian_block_columns);
      if (Total(estimate.layers) <= budget_bytes) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    const bool spills = choice.plan.hidden_states == Placement::kFile;
    if (low == all || spills || one == 0) return low * one;
    return std::min(low, std::max<int64_t>(1, kEnoughExpertBytes / one)) * one;
  }

  const JobShape& shape_;
  const std::vector<LayerSpec> kinds_;
};

}  // namespace

int64_t SmallestBudget(const JobShape& shape) {
  int64_t smallest = std::numeric_limits<int64_t>::max();
  for (const MemoryChoice& choice : Chooser(shape).Choices()) {
    smallest = std::min(smallest, choice.estimate.peak_bytes);
  }
  return smallest;
}

MemoryChoice ChoosePassPlan(const JobShape& shape, int64_t budget_bytes) {
  const DecoderConfig& config = shape.config;
  const Chooser chooser(shape);
  for (const MemoryChoice& choice : chooser.Choices()) {
    if (choice.estimate.peak_bytes > budget_bytes) continue;
    PassPlan plan = choice.plan;
    chooser.UseBudget(budget_bytes, choice, plan);
    // What losses leave makes larger slices.
    const int64_t row_bytes = HeadBytes(shape, 1);
    int64_t rows = (budget_bytes - Total(choice.estimate.head)) / row_bytes + kVocabularySlice;
    plan.head_slice_rows = HeadSliceRows(config.vocabulary, rows);
    PassPlan keeping = plan;
    keeping.tied_head = TiedHead::kKept;
    const MemoryChoice kept = chooser.Make(keeping, choice.hessian_block_columns);
    return kept.estimate.peak_bytes <= budget_bytes
               ? kept
               : chooser.Make(plan, choice.hessian_block_columns);
  }
  const double smallest =
      std::ceil(static_cast<double>(SmallestBudget(shape)) / 0x1p30 * 100) / 100;
  Fail(ErrorCode::kMemoryBudget,
       "the job needs at least {:.2f} GiB of memory, the budget is {:.2f} GiB; the smallest "
       "--memory_budget that would do is {:.2f}GiB; fewer --threads need less",
       smallest, static_cast<double>(budget_bytes) / 0x1p30, smallest);
}

}  // namespace narrow
