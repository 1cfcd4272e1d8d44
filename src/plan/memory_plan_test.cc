#include "plan/memory_plan.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <limits>
#include <map>
#include <string>

#include "base/error.h"
#include "evaluation/token_comparison.h"
#include "model/family.h"
#include "stream/losses.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

constexpr int64_t kGib = int64_t{1} << 30;
constexpr int64_t kMany = std::numeric_limits<int64_t>::max();

// `preset`, 128 x 512 calibration tokens and the 141 windows of WikiText-2, two threads.
JobShape ShapeOfPreset(std::string_view preset, ComputeType compute = ComputeType::kBfloat16) {
  const Json config = PresetConfig(preset);
  JobShape shape;
  shape.family = &FindModelFamily(config, "preset");
  shape.config = shape.family->parse_config(config, "preset");
  shape.compute = compute;
  shape.threads = 2;
  shape.calibration_tokens = 128 * 512;
  shape.evaluation_tokens = 141 * 2048;
  shape.longest_sequence = 2048;
  shape.evaluation_variants = 1;
  shape.rounding = RoundingAlgorithm::kCompensated;
  shape.resident_before_bytes = int64_t{200} << 20;
  return shape;
}

int64_t PartOf(const std::vector<MemoryPart>& parts, MemoryUse use) {
  for (const MemoryPart& part : parts) {
    if (part.use == use) return part.bytes;
  }
  return -1;
}

// The budget a refusal asks for, as a user would type it.
int64_t BudgetInRefusal(const JobShape& shape, int64_t budget) {
  try {
    ChoosePassPlan(shape, budget);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemoryBudget);
    double gib = 0;
    EXPECT_EQ(std::sscanf(error.what(), "the job needs at least %lf GiB", &gib), 1) << error.what();
    return static_cast<int64_t>(gib * 0x1p30);
  }
  return 0;
}

TEST(MemoryPlan, Llama405BFitsTwelveGibibytesWithHiddenStatesOnDisk) {
  const JobShape shape = ShapeOfPreset("llama-3.1-405b");
  const MemoryChoice choice = ChoosePassPlan(shape, 12 * kGib);
  EXPECT_LE(choice.estimate.peak_bytes, 12 * kGib);
  EXPECT_EQ(choice.plan.hidden_states, Placement::kFile);
  EXPECT_GT(choice.hessian_block_columns, 0);
  EXPECT_LT(choice.hessian_block_columns, shape.config.intermediate);
  // Four matrices of 16384 x 16384 and their like, two bytes each: counted by hand.
  EXPECT_EQ(LayerWeightCount(shape.layer()),
            2 * 16384LL * 16384 + 2 * 16384LL * 1024 + 3 * 16384LL * 53248);
}

// The table of docs/memory.md, counted by hand: h = 16384, f = 53248, q = 16384, kv = 1024.
TEST(MemoryPlan, PartsOf405BAreThoseOfTheManual) {
  JobShape shape = ShapeOfPreset("llama-3.1-405b");
  shape.head_basis = HeadBasis::kFitted;
  shape.probe_tokens = 512;
  PassPlan plan;
  plan.hidden_states = Placement::kFile;
  const MemoryEstimate estimate = EstimateMemory(shape, shape.kinds(), plan, 6656);
  const auto expect = [&](MemoryUse use, double mebibytes) {
    EXPECT_NEAR(static_cast<double>(PartOf(estimate.layers, use)) / 0x1p20, mebibytes, 0.05)
        << Name(use);
  };
  expect(MemoryUse::kLayer, 6080.0);
  expect(MemoryUse::kStatistics, 3756.1);
  expect(MemoryUse::kHiddenStates, 256.0);
  expect(MemoryUse::kRewriting, 208.0);
  expect(MemoryUse::kBatch, 272.0);
  expect(MemoryUse::kProbe, 96.0);
  expect(MemoryUse::kTiles, 184.0);
  expect(MemoryUse::kBasis, 21.0);
  expect(MemoryUse::kSlack, 80.0);
}

// By hand for Llama 3.1 8B: h = q = 4096, kv = 1024, f = 14336; a batch of 100 rows in bf16.
TEST(MemoryPlan, QuantizingHoldsWhatItsOptionsAskFor) {
  const JobShape shape = ShapeOfPreset("llama-3.1-8b");
  const LayerSpec layer = shape.layer();
  LayerQuantizationOptions options;
  const auto bytes = [&](RoundingAlgorithm rounding, HeadBasis basis) {
    options.rounding = rounding;
    options.head_basis = basis;
    return BytesToQuantize(layer, options, 100, shape.compute, 2);
  };
  const auto nothing = bytes(RoundingAlgorithm::kNearest, HeadBasis::kOriginal);
  EXPECT_EQ(nothing.second_order + nothing.batch + nothing.basis, 0);
  const auto rounded = bytes(RoundingAlgorithm::kCompensated, HeadBasis::kOriginal);
  EXPECT_EQ(rounded.batch, 100 * (3 * 4096 + 14336) * 2);
  EXPECT_EQ(rounded.basis, 0);
  // Sums of every input are there when the first group is factored.
  EXPECT_GT(rounded.second_order, (3 * 4096LL * 4096 + 14336LL * 14336) * 4);
  const auto fitted = bytes(RoundingAlgorithm::kNearest, HeadBasis::kFitted);
  EXPECT_EQ(fitted.second_order, 0);
  // The weights of o in blocks of 128 columns, and two batches of 1024 tokens in f32.
  EXPECT_EQ(fitted.batch, 4096 * 128 * 4 + 2 * 1024 * 4096 * 4);
  EXPECT_EQ(bytes(RoundingAlgorithm::kCompensated, HeadBasis::kFitted).batch,
            std::max<int64_t>(fitted.batch, 100 * (3 * 4096 + 14336 + 1024 + 5120 / 4) * 2));
}

TEST(MemoryPlan, Llama8BFitsTwoGibibytes) {
  const MemoryChoice choice = ChoosePassPlan(ShapeOfPreset("llama-3.1-8b"), 2 * kGib);
  EXPECT_LE(choice.estimate.peak_bytes, 2 * kGib);
}

TEST(MemoryPlan, Llama8BFitsTwoGibibytesInFloat32) {
  JobShape shape = ShapeOfPreset("llama-3.1-8b", ComputeType::kFloat32);
  shape.resident_before_bytes = int64_t{80} << 20;  // its tokenizer and WikiText-2
  const MemoryChoice choice = ChoosePassPlan(shape, 2 * kGib);
  EXPECT_LE(choice.estimate.peak_bytes, 2 * kGib);
}

// A model whose head is larger than its layers: 128256 x 2048 against 61 million weights.
JobShape ShapeOfLargeHead() {
  JobShape shape = ShapeOfPreset("llama-3.1-8b");
  shape.config.hidden = 2048;
  shape.config.intermediate = 8192;
  shape.rounding = RoundingAlgorithm::kNearest;
  return shape;
}

TEST(MemoryPlan, TheHeadIsNotWhatDecidesTheSmallestBudget) {
  const JobShape shape = ShapeOfLargeHead();
  const int64_t smallest = SmallestBudget(shape);
  JobShape wider = shape;
  wider.config.vocabulary *= 4;
  EXPECT_EQ(SmallestBudget(wider), smallest);
  EXPECT_LT(smallest, wider.config.vocabulary * wider.config.hidden * 2);
}

TEST(MemoryPlan, SlicesOfTheHeadFillTheBudget) {
  const JobShape shape = ShapeOfLargeHead();
  const int64_t row_bytes = shape.config.hidden * 2;
  // Larger batches come first, and leave the head less.
  std::map<int64_t, int64_t> slices_before;  // by rows of a batch
  for (int64_t budget = SmallestBudget(shape); budget < 2 * kGib; budget += int64_t{16} << 20) {
    const MemoryChoice choice = ChoosePassPlan(shape, budget);
    EXPECT_LE(choice.estimate.peak_bytes, budget);
    if (choice.plan.hidden_states == Placement::kFile) {
      int64_t& before = slices_before.try_emplace(choice.plan.batch_rows, kMany).first->second;
      EXPECT_LE(choice.head_slices, before);
      before = choice.head_slices;
    }
    EXPECT_EQ(PartOf(choice.estimate.head, MemoryUse::kHead),
              HeadSliceRows(shape.config.vocabulary, choice.plan.head_slice_rows) * row_bytes);
    EXPECT_EQ(choice.head_slices, HeadSlices(shape.config, choice.plan));
  }
  EXPECT_EQ(ChoosePassPlan(shape, 64 * kGib).head_slices, 1);
  EXPECT_EQ(HeadSlices(shape.config, PassPlan()), 1);
}

// A head that is the embedding is in memory from its reading to the losses where the budget allows
// it beside all else; a head of its own never is.
TEST(MemoryPlan, ATiedHeadIsKeptWhereItCostsNothingElse) {
  JobShape shape = ShapeOfLargeHead();
  EXPECT_FALSE(KeepsTiedHead(shape, ChoosePassPlan(shape, 64 * kGib).plan));
  shape.config.lm_head = DecoderConfig::LmHead::kTied;
  const int64_t head_bytes = shape.config.vocabulary * shape.config.hidden * 2;
  const int64_t smallest = SmallestBudget(shape);
  EXPECT_LT(smallest, 2 * head_bytes);
  EXPECT_FALSE(KeepsTiedHead(shape, ChoosePassPlan(shape, smallest).plan));
  const MemoryChoice kept = ChoosePassPlan(shape, 64 * kGib);
  EXPECT_TRUE(KeepsTiedHead(shape, kept.plan));
  EXPECT_EQ(kept.head_slices, 1);
  for (const auto* parts : {&kept.estimate.embedding, &kept.estimate.layers, &kept.estimate.head}) {
    EXPECT_EQ(PartOf(*parts, MemoryUse::kHead), head_bytes);
  }
  // Just below what that takes, all else is the same.
  const MemoryChoice below = ChoosePassPlan(shape, kept.estimate.peak_bytes - 1);
  EXPECT_FALSE(KeepsTiedHead(shape, below.plan));
  EXPECT_EQ(below.plan.hidden_states, kept.plan.hidden_states);
  EXPECT_EQ(below.plan.read_ahead_bytes, kept.plan.read_ahead_bytes);
  EXPECT_EQ(below.plan.batch_rows, kept.plan.batch_rows);
}

TEST(MemoryPlan, SlicesAreWholePanelsThatCoverTheVocabulary) {
  for (const int64_t vocabulary : {1, 1000, 1024, 1025, 49152, 128256}) {
    for (const int64_t rows : {1, 1023, 1024, 1500, 5000, 60000, 128255, 128256, 1 << 30}) {
      const int64_t slice = HeadSliceRows(vocabulary, rows);
      EXPECT_LE(slice, std::max(rows, kVocabularySlice));
      EXPECT_GT(slice, 0);
      if (slice == vocabulary) continue;
      EXPECT_LT(slice, vocabulary);
      EXPECT_EQ(slice % kVocabularySlice, 0);
      EXPECT_LT(rows, vocabulary);
    }
    EXPECT_EQ(HeadSliceRows(vocabulary, vocabulary), vocabulary);
  }
  EXPECT_EQ(HeadSliceRows(128256, 100000), 63 * 1024);  // two of about equal size
}

TEST(MemoryPlan, PlentyOfMemoryIsUsed) {
  const JobShape shape = ShapeOfPreset("llama-3.1-8b");
  const MemoryChoice choice = ChoosePassPlan(shape, 64 * kGib);
  EXPECT_EQ(choice.plan.hidden_states, Placement::kMemory);
  EXPECT_EQ(choice.hessian_block_columns, 0);
  EXPECT_EQ(choice.plan.read_ahead_bytes, LayerWeightCount(shape.layer()) * 2);
}

TEST(MemoryPlan, ARefusalNamesABudgetThatFits) {
  for (const char* preset : {"llama-3.1-405b", "llama-3.1-70b", "llama-3.1-8b", "tiny"}) {
    for (const ComputeType compute : {ComputeType::kBfloat16, ComputeType::kFloat32}) {
      const JobShape shape = ShapeOfPreset(preset, compute);
      const int64_t smallest = SmallestBudget(shape);
      for (int64_t percent = 5; percent < 100; percent += 5) {
        const int64_t named = BudgetInRefusal(shape, smallest / 100 * percent);
        ASSERT_GE(named, smallest) << preset;
        ASSERT_LE(named, smallest + kGib / 50) << preset;
        ASSERT_LE(ChoosePassPlan(shape, named).estimate.peak_bytes, named) << preset;
      }
      EXPECT_NO_THROW(ChoosePassPlan(shape, smallest));
      EXPECT_THROW(ChoosePassPlan(shape, smallest - 1), Error);
    }
  }
}

TEST(MemoryPlan, NoChoiceExceedsItsBudget) {
  for (const Dtype stored : {Dtype::kBF16, Dtype::kF16, Dtype::kF32}) {
    for (const ComputeType compute : {ComputeType::kBfloat16, ComputeType::kFloat32}) {
      JobShape shape = ShapeOfPreset("llama-3.1-70b", compute);
      shape.stored = stored;
      const int64_t smallest = SmallestBudget(shape);
      for (int64_t budget = smallest; budget < 60 * kGib; budget += kGib / 2) {
        const MemoryChoice choice = ChoosePassPlan(shape, budget);
        ASSERT_LE(choice.estimate.peak_bytes, budget);
        ASSERT_GE(choice.plan.read_ahead_bytes, 0);
      }
    }
  }
}

TEST(MemoryPlan, MoreTokensNeverNeedLess) {
  JobShape shape = ShapeOfPreset("llama-3.1-8b");
  int64_t before = 0;
  PassPlan in_memory;
  int64_t in_memory_before = 0;
  for (int64_t samples = 1; samples <= 4096; samples *= 2) {
    shape.calibration_tokens = samples * 512;
    shape.evaluation_tokens = samples * 2048;
    const int64_t smallest = SmallestBudget(shape);
    EXPECT_GE(smallest, before);
    before = smallest;
    const int64_t estimate = EstimateMemory(shape, shape.kinds(), in_memory, 0).peak_bytes;
    EXPECT_GT(estimate, in_memory_before);
    in_memory_before = estimate;
  }
}

TEST(MemoryPlan, SpilledMemoryDependsNeitherOnSamplesNorOnWindows) {
  JobShape shape = ShapeOfPreset("llama-3.1-8b");
  PassPlan spilled;
  spilled.hidden_states = Placement::kFile;
  spilled.read_ahead_bytes = 0;
  const auto layers = [&] {
    int64_t sum = 0;
    for (const MemoryPart& part : EstimateMemory(shape, shape.kinds(), spilled, 0).layers)
      sum += part.bytes;
    return sum;
  };
  const int64_t once = layers();
  shape.calibration_tokens *= 2;
  shape.evaluation_tokens *= 2;
  EXPECT_EQ(layers(), once);
}

TEST(MemoryPlan, MemoryDoesNotDependOnTheNumberOfLayers) {
  JobShape shape = ShapeOfPreset("llama-3.1-405b");
  const int64_t whole = SmallestBudget(shape);
  const MemoryChoice choice = ChoosePassPlan(shape, 12 * kGib);
  for (const int64_t layers : {1, 2, 4, 252}) {
    shape.config.layers = layers;
    EXPECT_EQ(SmallestBudget(shape), whole);
    EXPECT_EQ(ChoosePassPlan(shape, 12 * kGib).estimate.peak_bytes, choice.estimate.peak_bytes);
  }
}

TEST(MemoryPlan, HiddenStatesAreOneRowOfFloatsPerTokenAndModel) {
  JobShape shape = ShapeOfPreset("llama-3.1-405b");
  // Calibration once, evaluation for the original and the quantized model.
  EXPECT_EQ(HiddenStateBytes(shape), (65536 + 2 * 288768) * 16384LL * 4);
  shape.evaluation_variants = 2;
  EXPECT_EQ(HiddenStateBytes(shape), (65536 + 3 * 288768) * 16384LL * 4);
  shape.evaluation_tokens = 0;
  EXPECT_EQ(HiddenStateBytes(shape), 65536 * 16384LL * 4);
}

}  // namespace
}  // namespace narrow
