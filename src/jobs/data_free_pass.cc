#include "jobs/data_free_pass.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/interrupt.h"
#include "tensor/tensor.h"

namespace narrow {
namespace {

using Location = CheckpointReader::TensorLocation;
using Clock = std::chrono::steady_clock;

// The matrices of a unit between finding their largest magnitude and encoding them.
struct UnitState {
  AlignedBuffer<std::byte> kept;  // all of them, in order, where they are kept
  float maximum = 0.0f;
};

// What is done at one go with bytes [begin, begin + bytes) of a tensor.
struct Step {
  enum class Kind { kCopy, kMeasure, kEncode } kind = Kind::kCopy;
  std::size_t item = 0;
  bool last_of_item = false;
  const Location* source = nullptr;
  const PlannedWeight* weight = nullptr;  // of kMeasure and kEncode
  int64_t begin = 0;
  int64_t bytes = 0;
  std::shared_ptr<UnitState> unit;
  int64_t kept_at = -1;  // in unit->kept; -1: it is not kept
};

// The steps of a plan, one after the other.
class Steps {
 public:
  Steps(const DataFreePlan& plan, std::size_t first_item) : plan_(plan), item_(first_item) {}

  std::optional<Step> Next() {
    while (at_ == steps_.size()) {
      if (item_ == plan_.items.size()) return std::nullopt;
      Make(plan_.items[item_]);
      ++item_;
    }
    return std::move(steps_[at_++]);
  }

 private:
  void Add(Step step, int64_t unit_bytes) {
    const int64_t all = step.source->entry.bytes();
    for (step.begin = 0; step.begin < all; step.begin += unit_bytes) {
      step.bytes = std::min(unit_bytes, all - step.begin);
      steps_.push_back(step);
      if (step.kept_at >= 0) step.kept_at += step.bytes;
    }
  }

  static int64_t BandBytes(const PlannedWeight& weight) {
    const SafetensorsEntry& entry = weight.source->entry;
    const int64_t band = weight.encoder.band_rows() * entry.bytes() / entry.shape[0];
    return std::max<int64_t>(1, kPieceBytes / band) * band;
  }

  void Make(const PlannedItem& item) {
    steps_.clear();
    at_ = 0;
    if (item.copied != nullptr) {
      Step step{.item = item_, .source = item.copied, .unit = nullptr};
      Add(step, kPieceBytes);
      // A tensor without elements has no bytes to copy, and is complete only when it was written.
      if (steps_.empty()) steps_.push_back(step);
    } else {
      auto unit = std::make_shared<UnitState>();
      const bool measured = item.needs_maximum();
      const bool kept = measured && item.source_bytes() <= kKeptUnitBytes;
      if (kept) unit->kept = AlignedBuffer<std::byte>(item.source_bytes());
      if (measured) AddWeights(item, Step::Kind::kMeasure, unit, kept);
      AddWeights(item, Step::Kind::kEncode, unit, kept);
    }
    steps_.back().last_of_item = true;
  }

  void AddWeights(const PlannedItem& item, Step::Kind kind, const std::shared_ptr<UnitState>& unit,
                  bool kept) {
    int64_t at = 0;
    for (const PlannedWeight& weight : item.weights) {
      Add({.kind = kind,
           .item = item_,
           .source = weight.source,
           .weight = &weight,
           .unit = unit,
           .kept_at = kept ? at : -1},
          BandBytes(weight));
      at += weight.source->entry.bytes();
    }
  }

  const DataFreePlan& plan_;
  std::size_t item_;
  std::vector<Step> steps_;  // of the item before item_
  std::size_t at_ = 0;
};

// Memory of one piece under way.
struct Slot {
  AlignedBuffer<std::byte> input;
  AlignedBuffer<std::byte> output;

  static std::span<std::byte> Room(AlignedBuffer<std::byte>& buffer, int64_t bytes) {
    if (buffer.size() < bytes) {
      buffer = AlignedBuffer<std::byte>();
      buffer = AlignedBuffer<std::byte>(bytes);
    }
    return buffer.span().first(static_cast<std::size_t>(bytes));
  }
};

// Bytes for one place of one tensor; they lie in a slot.
struct Part {
  std::string tensor;
  int64_t offset = 0;
  std::span<const std::byte> bytes;
};

class Pass {
 public:
  Pass(const CheckpointReader& checkpoint, const DataFreePlan& plan,
       const std::filesystem::path& directory, const DataFreePassOptions& options,
       ProgressSink& progress)
      : checkpoint_(checkpoint),
        plan_(plan),
        options_(options),
        progress_(progress),
        writer_(directory, PlanShards(plan.Tensors(), options.max_shard_bytes)),
        steps_(plan, static_cast<std::size_t>(options.items_done)) {}

  void Run() {
    progress_.BeginPhase("Quantizing", plan_.source_bytes, "bytes");
    TakeOver();
    std::size_t number = 0;
    std::optional<Step> step = steps_.Next(), next;
    std::future<std::span<const std::byte>> read = StartReading(step, number);
    for (; step; ++number) {
      ThrowIfStopRequested("the same command continues");
      const std::span<const std::byte> bytes = read.get();
      next = steps_.Next();
      read = StartReading(next, number + 1);
      std::vector<Part> parts = Process(*step, bytes, slots_[number % slots_.size()]);
      Wait();
      StartWriting(std::move(parts));
      if (step->kind != Step::Kind::kMeasure) progress_.Advance(step->bytes);
      if (step->last_of_item) SaveIfDue(static_cast<int64_t>(step->item) + 1);
      step = std::move(next);
    }
    Wait();
    writer_.Finish();
    progress_.EndPhase();
  }

 private:
  void TakeOver() {
    int64_t skipped = 0;
    for (int64_t i = 0; i < options_.items_done; ++i) {
      const PlannedItem& item = plan_.items[static_cast<std::size_t>(i)];
      for (const TensorSpec& tensor : DataFreePlan::Tensors(item)) {
        writer_.AssumeWritten(tensor.name);
      }
      skipped += item.source_bytes();
    }
    if (skipped > 0) progress_.Skip(skipped);
  }

  std::future<std::span<const std::byte>> StartReading(const std::optional<Step>& step,
                                                       std::size_t number) {
    if (!step) return {};
    const bool kept = step->kept_at >= 0;
    const auto count = static_cast<std::size_t>(step->bytes);
    const std::span<std::byte> to =
        kept ? step->unit->kept.span().subspan(static_cast<std::size_t>(step->kept_at), count)
             : Slot::Room(slots_[number % slots_.size()].input, step->bytes);
    const bool there = kept && step->kind == Step::Kind::kEncode;
    return std::async(std::launch::async,
                      [this, source = step->source, begin = step->begin, to,
                       there]() -> std::span<const std::byte> {
                        if (!there) checkpoint_.ReadPart(*source, begin, to);
                        return to;
                      });
  }

  std::vector<Part> Process(const Step& step, std::span<const std::byte> bytes, Slot& slot) {
    switch (step.kind) {
      case Step::Kind::kCopy:
        return {{step.source->entry.name, step.begin, bytes}};
      case Step::Kind::kMeasure:
        step.unit->maximum = std::max(step.unit->maximum, step.weight->encoder.Maximum(bytes));
        return {};
      case Step::Kind::kEncode:
        break;
    }
    return Encode(step, bytes, slot);
  }

  static std::vector<Part> Encode(const Step& step, std::span<const std::byte> bytes, Slot& slot) {
    const WeightEncoder& encoder = step.weight->encoder;
    const SafetensorsEntry& entry = step.source->entry;
    const int64_t row_bytes = entry.bytes() / entry.shape[0];
    const WeightEncoder::BandSizes sizes =
        encoder.SizesOfBand(step.begin / row_bytes, step.bytes / row_bytes);
    // Codes, scales, zero points, and room for what the matrix has once.
    constexpr int64_t kOnceBytes = 32;
    std::span<std::byte> room =
        Slot::Room(slot.output, sizes.codes + sizes.scales + sizes.zeros + kOnceBytes);
    const auto take = [&room](int64_t count) {
      const std::span<std::byte> taken = room.first(static_cast<std::size_t>(count));
      room = room.subspan(static_cast<std::size_t>(count));
      return taken;
    };
    const WeightEncoder::Band band{take(sizes.codes), take(sizes.scales), take(sizes.zeros)};
    encoder.Encode(step.begin / row_bytes, bytes, step.unit->maximum, band);
    std::vector<Part> parts;
    const auto add = [&](const std::string& tensor, int64_t at, std::span<std::byte> of_band) {
      if (!of_band.empty()) parts.push_back({tensor, at, of_band});
    };
    for (const PartTensor& part : step.weight->parts) {
      const std::string& name = part.tensor.name;
      if (part.part == LinearPart::kCodes) add(name, sizes.codes_at, band.codes);
      if (part.part == LinearPart::kScale) add(name, sizes.scales_at, band.scales);
      if (part.part == LinearPart::kZeroPoint) add(name, sizes.zeros_at, band.zeros);
      if (step.begin > 0) continue;
      if (part.part == LinearPart::kGlobalScale) {
        const float scale = encoder.GlobalScale(step.unit->maximum);
        const auto to = take(sizeof(scale));
        std::ranges::copy(std::as_bytes(std::span(&scale, 1)), to.begin());
        parts.push_back({name, 0, to});
      } else if (part.part == LinearPart::kShape) {
        const std::array<int64_t, 2> shape = {entry.shape[0], entry.shape[1]};
        const auto to = take(sizeof(shape));
        std::ranges::copy(std::as_bytes(std::span(shape)), to.begin());
        parts.push_back({name, 0, to});
      }
    }
    return parts;
  }

  void StartWriting(std::vector<Part> parts) {
    write_ = std::async(std::launch::async, [this, parts = std::move(parts)] {
      for (const Part& part : parts) writer_.WritePart(part.tensor, part.offset, part.bytes);
    });
  }

  void Wait() {
    if (write_.valid()) write_.get();
  }

  void SaveIfDue(int64_t items_done) {
    const std::chrono::duration<double> since = Clock::now() - saved_;
    if (!options_.save || since.count() < options_.save_interval_seconds) return;
    Wait();
    writer_.Flush();
    options_.save(items_done);
    saved_ = Clock::now();
  }

  const CheckpointReader& checkpoint_;
  const DataFreePlan& plan_;
  const DataFreePassOptions& options_;
  ProgressSink& progress_;
  CheckpointWriter writer_;
  Steps steps_;
  std::array<Slot, 3> slots_;
  Clock::time_point saved_ = Clock::now();
  std::future<void> write_;  // last: an error waits for it before the memory goes
};

}  // namespace

void RunDataFreePass(const CheckpointReader& checkpoint, const DataFreePlan& plan,
                     const std::filesystem::path& directory, const DataFreePassOptions& options,
                     ProgressSink& progress) {
  Pass(checkpoint, plan, directory, options, progress).Run();
}

}  // namespace narrow
