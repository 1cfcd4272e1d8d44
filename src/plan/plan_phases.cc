#include "plan/plan_phases.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked_math.h"
#include "device/compensation/hessian.h"
#include "device/compensation/operations.h"
#include "evaluation/token_comparison.h"
#include "model/loaded_layer.h"
#include "quantization/calibration.h"
#include "stream/head_packer.h"

namespace narrow {
namespace {

// Share of the measured product rate that the head sustains: the rest goes to the distributions
// over the vocabulary. An assumption, see docs/memory.md.
constexpr double kHeadEfficiency = 0.8;
constexpr double kSaveIntervalSeconds = 60;

double Ratio(double amount, double rate) { return rate > 0 ? amount / rate : 0; }
double AsDouble(int64_t value) { return static_cast<double>(value); }

class PhasePlanner {
 public:
  enum class Output { kWritten, kNone };

  PhasePlanner(const JobWork& work, const MemoryChoice& memory, const MachineRates* rates,
               Output output)
      : work_(work),
        shape_(work.shape),
        layer_(work.shape.layer()),
        memory_(memory),
        rates_(rates != nullptr ? *rates : MachineRates{}),
        spills_(memory.plan.hidden_states == Placement::kFile),
        output_(output) {}

  std::vector<PhasePlan> Phases() {
    std::vector<PhasePlan> phases = {Embedding(), Layers()};
    if (shape_.evaluation_tokens > 0 || (writes() && work_.own_head())) {
      phases.push_back(Head());
    }
    if (writes()) phases.push_back(Writing());
    for (PhasePlan& phase : phases) {
      for (const NamedSeconds& part : phase.parts) phase.seconds += part.seconds;
    }
    return phases;
  }

 private:
  bool writes() const { return work_.quantizes() && output_ == Output::kWritten; }

  // Program, allocator and hidden states: what every phase holds.
  int64_t BaseBytes() const {
    std::vector<MemoryPart> held = memory_.estimate.layers;
    std::erase_if(held, [](const MemoryPart& part) {
      return part.use != MemoryUse::kProgram && part.use != MemoryUse::kSlack &&
             part.use != MemoryUse::kHiddenStates;
    });
    return Total(held);
  }

  static void Add(PhasePlan& phase, const std::string& what, double seconds) {
    if (seconds > 0) phase.parts.emplace_back(what, seconds);
  }

  void AddDisk(PhasePlan& phase) {
    Add(phase, "reading", Ratio(AsDouble(phase.read_bytes), rates_.disk_read));
    Add(phase, "writing", Ratio(AsDouble(phase.written_bytes), rates_.disk_write));
    AddSpilling(phase);
  }

  void AddSpilling(PhasePlan& phase) {
    Add(phase, "spilling",
        Ratio(AsDouble(phase.spill_read_bytes), rates_.disk_read) +
            Ratio(AsDouble(phase.spill_written_bytes), rates_.disk_write));
  }

  PhasePlan Embedding() {
    PhasePlan phase;
    phase.name = "embedding";
    phase.memory_bytes = Total(memory_.estimate.embedding);
    phase.read_bytes = work_.embedding_bytes;
    if (writes()) phase.written_bytes = work_.embedding_bytes;
    if (spills_) phase.spill_written_bytes = HiddenStateBytes(shape_);
    AddDisk(phase);
    return phase;
  }

  PhasePlan Layers() {
    PhasePlan phase;
    phase.name = "layers";
    phase.memory_bytes = Total(memory_.estimate.layers);
    const int64_t layers = shape_.config.layers;
    const int64_t ahead =
        std::min(work_.layer_bytes, memory_.plan.read_ahead_bytes * layers * shape_.checkpoints);
    const int64_t late = work_.layer_bytes - ahead;
    const bool twice = ReadsExpertsTwice(shape_, memory_.plan, memory_.hessian_block_columns);
    const int64_t again = BytesReadAgain(late) + (twice ? work_.expert_bytes : 0);
    phase.read_bytes = work_.layer_bytes + again;
    if (writes()) phase.written_bytes = work_.layer_output_bytes + work_.kept_bytes;
    if (spills_) {
      // Some experts at a time read what they take and what they add to, and write the latter.
      const int64_t passes = ExpertPasses(shape_, memory_.plan, memory_.hessian_block_columns);
      phase.spill_read_bytes = layers * (1 + passes) * HiddenStateBytes(shape_);
      phase.spill_written_bytes =
          layers * (HiddenStateBytes(shape_) + passes * HiddenStateBytes(shape_) / 2);
    }
    const double original = AsDouble(layers) * OriginalLayerFlops(work_);
    const double quantized = AsDouble(layers) * QuantizedLayerFlops(work_);
    Add(phase, "forward steps",
        Ratio(original, rates_.layer) + Ratio(quantized, rates_.quantized_layer));
    phase.forward_flops = original + quantized;
    phase.flops = phase.forward_flops + AddRounding(phase);
    AddPacking(phase, twice);
    AddExchange(phase);
    AddLayerDisk(phase, ahead, late + again);
    return phase;
  }

  // Of what is not read ahead, where packed weights are not exactly the stored ones: those are read
  // again when they are measured, when they are rounded, and those of o for the basis of the heads.
  int64_t BytesReadAgain(int64_t late) const {
    if (!KeepsStoredWeights(shape_) || !work_.quantizes()) return 0;
    const bool compensated = shape_.rounding == RoundingAlgorithm::kCompensated;
    const int64_t again = compensated ? 2 * late : late;
    if (!FitsHeadBasis(shape_)) return again;
    // What comes after o in a layer is late before o is.
    int64_t after = 0, attention_output = 0;
    for (const GroupSpec& group : GroupsOf(layer_)) {
      const int64_t bytes = shape_.config.layers * group.elements() * ElementBytes(shape_.stored);
      if (group.id == LinearGroup::kAttentionOutput) {
        attention_output = bytes;
      } else if (attention_output > 0) {
        after += bytes;
      }
    }
    return again + std::clamp<int64_t>(late - after, 0, attention_output);
  }

  // Returns the operations.
  double AddRounding(PhasePlan& phase) {
    if (!work_.quantizes() || shape_.rounding != RoundingAlgorithm::kCompensated) return 0;
    const double sampled = AsDouble(shape_.calibration_tokens);
    double summing = 0, factoring = 0, rounding = 0, rounding_seconds = 0;
    for (const QuantizedGroup& group : work_.groups) {
      const double layers = AsDouble(group.layers);
      const int64_t block = memory_.hessian_block_columns;
      summing += layers * sampled * group.share * HessianFlopsPerToken(group.columns, block);
      factoring += layers * FactorFlops(group.columns, block) /
                   (FactorsTogether(group.columns) ? AsDouble(shape_.ranks) : 1);
      const double work = layers * AsDouble(group.rows) * RoundingFlopsPerRow(group.columns, block);
      rounding += work / AsDouble(shape_.ranks);
      const double occupancy =
          RoundingOccupancy(group.columns, shape_.threads * shape_.ranks) * AsDouble(shape_.ranks);
      rounding_seconds += Ratio(work, rates_.rounding * occupancy);
    }
    Add(phase, "second-order statistics", Ratio(summing, rates_.hessian));
    Add(phase, "factorization", Ratio(factoring, rates_.factoring));
    Add(phase, "rounding", rounding_seconds);
    return summing + factoring + rounding;
  }

  // Whether ranks, each on a host of its own, divide the factor for an input of so many columns.
  bool FactorsTogether(int64_t columns) const {
    return HessianAccumulator::BlockColumns(columns, memory_.hessian_block_columns) >=
           CompensationFactor::kFewestAcrossHosts;
  }

  // Everything that one rank has and all need: inputs of the statistics, then their sums, then
  // factors, then codes.
  void AddExchange(PhasePlan& phase) const {
    if (shape_.ranks == 1 || !work_.quantizes()) return;
    const bool compensated = shape_.rounding == RoundingAlgorithm::kCompensated;
    double bytes = 0;
    for (const QuantizedGroup& group : work_.groups) {
      if (!compensated) break;
      const int64_t widest =
          HessianAccumulator::BlockColumns(group.columns, memory_.hessian_block_columns);
      bytes += AsDouble(group.layers) * (AsDouble(group.columns * widest) / 2 * sizeof(float) +
                                         AsDouble(group.rows * group.columns));
      if (FactorsTogether(group.columns)) {
        bytes += AsDouble(group.layers) * AsDouble(group.columns * widest) / 2 * sizeof(double);
      }
    }
    std::vector<GroupSpec> collected = GroupsOf(layer_);
    if (!compensated) collected.clear();
    bytes += AsDouble(shape_.config.layers *
                      CollectedBytes(layer_, collected, FitsHeadBasis(shape_),
                                     shape_.calibration_tokens * shape_.ranks, shape_.compute));
    phase.exchanged_bytes = static_cast<int64_t>(bytes);
    Add(phase, "exchange between ranks", Ratio(bytes, rates_.network));
  }

  void AddPacking(PhasePlan& phase, bool experts_twice) {
    const double weights =
        AsDouble(shape_.checkpoints * LayerWeights(shape_) * OperandBytes(shape_.compute));
    const double again = experts_twice ? AsDouble(work_.expert_bytes / ElementBytes(shape_.stored) *
                                                  OperandBytes(shape_.compute))
                                       : 0;
    double rewritings = work_.quantizes() ? 1 : 0;
    if (shape_.own_weight_scales && shape_.evaluation_tokens > 0) ++rewritings;
    Add(phase, "packing", Ratio(weights + again, rates_.packing));
    Add(phase, "unpacking and packing again", Ratio(rewritings * weights, rates_.rewriting));
  }

  void AddLayerDisk(PhasePlan& phase, int64_t ahead, int64_t late) {
    const double computing =
        std::accumulate(phase.parts.begin(), phase.parts.end(), 0.0,
                        [](double sum, const NamedSeconds& part) { return sum + part.seconds; });
    const double background = Ratio(AsDouble(ahead), rates_.disk_read) +
                              Ratio(AsDouble(phase.written_bytes), rates_.disk_write);
    // Nothing computes while the first layer is read.
    const double first = Ratio(AsDouble(ahead) / AsDouble(shape_.config.layers), rates_.disk_read);
    Add(phase, "reading and writing beyond computing", std::max(0.0, background - computing));
    Add(phase, "reading that is not ahead", first + Ratio(AsDouble(late), rates_.disk_read));
    if (!spills_ && work_.quantizes()) {
      const double saves =
          std::min(AsDouble(shape_.config.layers), std::floor(computing / kSaveIntervalSeconds));
      phase.spill_written_bytes = static_cast<int64_t>(saves) * HiddenStateBytes(shape_);
    }
    AddSpilling(phase);
  }

  PhasePlan Head() {
    PhasePlan phase;
    phase.name = "head";
    if (!KeepsTiedHead(shape_, memory_.plan)) phase.read_bytes = work_.head_bytes;
    if (writes() && work_.own_head()) phase.written_bytes = work_.head_bytes;
    phase.memory_bytes = Total(memory_.estimate.head);
    if (shape_.evaluation_tokens > 0) {
      const DecoderConfig& c = shape_.config;
      // The attribution takes its windows of the original along.
      const int64_t rows =
          EvaluatedTokens(shape_) + (AttributedTokens(shape_) > 0 ? AttributionTokens(shape_) : 0);
      phase.flops = phase.forward_flops = 2 * AsDouble(rows) * AsDouble(c.hidden * c.vocabulary);
      if (spills_) {
        // Every slice of the head reads all of them.
        phase.spill_read_bytes = memory_.head_slices * HiddenStore::Bytes(rows, c.hidden);
      }
      Add(phase, "products", Ratio(phase.flops, rates_.products * kHeadEfficiency));
      Add(phase, "packing",
          Ratio(AsDouble(shape_.checkpoints * PackedHeadBytes(c, c.vocabulary, shape_.compute)),
                rates_.packing));
      if (shape_.ranks > 1) {
        phase.exchanged_bytes = rows * shape_.ranks * static_cast<int64_t>(sizeof(NetworkState));
        Add(phase, "exchange between ranks",
            Ratio(AsDouble(phase.exchanged_bytes), rates_.network));
      }
    }
    AddDisk(phase);
    return phase;
  }

  // What layers wrote to the last shard reaches the disk when it is closed, at the latest;
  // embedding and head are counted where they are copied.
  PhasePlan Writing() {
    PhasePlan phase;
    phase.name = "writing";
    phase.memory_bytes = BaseBytes();
    phase.written_bytes = work_.other_bytes;
    const int64_t copied = work_.own_head() ? work_.head_bytes : 0;
    const int64_t shard = std::min(work_.max_shard_bytes - copied, work_.layer_output_bytes);
    Add(phase, "closing the last file",
        Ratio(AsDouble(std::max<int64_t>(0, shard)), rates_.disk_write));
    return phase;
  }

  const JobWork& work_;
  const JobShape& shape_;
  const LayerSpec layer_;
  const MemoryChoice& memory_;
  const MachineRates rates_;
  const bool spills_;
  const Output output_;
};

// The pass that chooses what to keep, as one phase.
PhasePlan MeasuringPhase(const JobWork& work, const MemoryChoice& memory,
                         const MachineRates* rates) {
  JobWork first = work;
  first.kept_bytes = 0;
  const bool errors_alone = work.measuring == JobWork::Measuring::kErrors;
  if (errors_alone) first.shape.evaluation_tokens = 0;
  PhasePlan phase = SumOf(
      PhasePlanner(first, memory, rates,
                   errors_alone ? PhasePlanner::Output::kNone : PhasePlanner::Output::kWritten)
          .Phases());
  phase.name = "measuring";
  return phase;
}

}  // namespace

std::vector<PhasePlan> PlanPhases(const JobWork& work, const MemoryChoice& memory,
                                  const MachineRates* rates) {
  std::vector<PhasePlan> phases =
      PhasePlanner(work, memory, rates, PhasePlanner::Output::kWritten).Phases();
  if (work.measuring != JobWork::Measuring::kNone) {
    phases.insert(phases.begin(), MeasuringPhase(work, memory, rates));
  }
  return phases;
}

PhasePlan SumOf(const std::vector<PhasePlan>& phases) {
  PhasePlan total;
  total.name = "total";
  for (const PhasePlan& phase : phases) {
    total.memory_bytes = std::max(total.memory_bytes, phase.memory_bytes);
    total.read_bytes += phase.read_bytes;
    total.written_bytes += phase.written_bytes;
    total.spill_read_bytes += phase.spill_read_bytes;
    total.spill_written_bytes += phase.spill_written_bytes;
    total.exchanged_bytes += phase.exchanged_bytes;
    total.flops += phase.flops;
    total.forward_flops += phase.forward_flops;
    total.seconds += phase.seconds;
  }
  return total;
}

}  // namespace narrow
