#include "plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "device/compensation/operations.h"
#include "io/file.h"
#include "io/scratch_directory.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

constexpr int64_t kGib = int64_t{1} << 30;

MachineRates Rates() {
  MachineRates rates;
  rates.products = 200e9;
  rates.layer = 160e9;
  rates.quantized_layer = 150e9;
  rates.hessian = 150e9;
  rates.factoring = 40e9;
  rates.rounding = 60e9;
  rates.packing = 4e9;
  rates.rewriting = 2e9;
  rates.disk_read = 1e9;
  rates.disk_write = 0.5e9;
  return rates;
}

const PhasePlan& Phase(const std::vector<PhasePlan>& phases, std::string_view name) {
  for (const PhasePlan& phase : phases) {
    if (phase.name == name) return phase;
  }
  throw std::out_of_range(std::string(name));
}

// The job of `narrow quantize` on a preset, without any file but config.json.
JobWork WorkOf(std::string_view preset) {
  const Json config = PresetConfig(preset);
  ModelSource model;
  model.family = &FindModelFamily(config, "preset");
  model.config = model.family->parse_config(config, "preset");
  JobShape shape;
  shape.family = model.family;
  shape.config = model.config;
  shape.threads = 2;
  shape.calibration_tokens = 128 * 512;
  shape.evaluation_tokens = 141 * 2048;
  shape.longest_sequence = 2048;
  shape.evaluation_variants = 1;
  shape.rounding = RoundingAlgorithm::kCompensated;
  JobWork work = CountWork(model, {}, shape);
  work.calibration_length = 512;
  work.window_tokens = 2048;
  work.max_shard_bytes = 5'000'000'000;
  return work;
}

TEST(JobWork, WeightsOf405BAreThoseOfItsModelCard) {
  const JobWork work = WorkOf("llama-3.1-405b");
  EXPECT_EQ(work.weights() + (2 * 126 + 1) * 16384, 405'853'388'800);  // with the norms
  EXPECT_EQ(work.embedding_bytes + work.head_bytes + work.layer_bytes + work.other_bytes,
            2 * 405'853'388'800);
  // A code for each weight, two scales for each linear, and those of Q, K and V.
  EXPECT_EQ(work.layer_output_bytes,
            126 * (LayerWeightCount(work.shape.layer()) + 7 * 8 + 12 + 2 * 16384 * 2));
}

TEST(JobWork, RoundingCountsBlocks) {
  EXPECT_DOUBLE_EQ(FactorFlops(3072, 0), 3072.0 * 3072 * 3072 / 3);
  EXPECT_DOUBLE_EQ(FactorFlops(3072, 1024), 1024.0 * 1024 * 1024);
  EXPECT_DOUBLE_EQ(RoundingFlopsPerRow(3072, 1024), 2 * 3.0 * 1024 * 1024);
  EXPECT_DOUBLE_EQ(HessianFlopsPerToken(1024, 0), 1024.0 * (1024 + 256));
}

TEST(PlanPhases, EveryByteIsReadOnceAndWrittenOnce) {
  const JobWork work = WorkOf("llama-3.1-405b");
  const MemoryChoice memory = ChoosePassPlan(work.shape, 12 * kGib);
  const std::vector<PhasePlan> phases = PlanPhases(work, memory, nullptr);
  const PhasePlan total = SumOf(phases);
  EXPECT_EQ(total.read_bytes, work.embedding_bytes + work.head_bytes + work.layer_bytes);
  EXPECT_EQ(total.written_bytes, work.output_bytes());
  EXPECT_EQ(total.seconds, 0);
  EXPECT_LE(total.memory_bytes, 12 * kGib);
  // The embedding fills the hidden states, every layer reads and writes all of them, and the head
  // reads those of the two models it compares.
  const int64_t states = HiddenStateBytes(work.shape);
  EXPECT_EQ(total.spill_written_bytes, 127 * states);
  EXPECT_EQ(total.spill_read_bytes, 126 * states + 2 * 288768 * 16384LL * 4);
}

TEST(PlanPhases, ProductsAreTwoOperationsPerWeightAndToken) {
  JobWork work = WorkOf("llama-3.1-405b");
  work.shape.rounding = RoundingAlgorithm::kNearest;
  const std::vector<PhasePlan> phases =
      PlanPhases(work, ChoosePassPlan(work.shape, 12 * kGib), nullptr);
  const double tokens = 65536 + 2 * 288768;
  const double matrices = 126.0 * static_cast<double>(LayerWeightCount(work.shape.layer()));
  const double attention = 126.0 * 128 * 128 * 4 * (65536 * 512 / 2 + 2 * 288768.0 * 2048 / 2);
  EXPECT_NEAR(Phase(phases, "layers").flops / (2 * matrices * tokens + attention), 1, 1e-4);
  EXPECT_DOUBLE_EQ(Phase(phases, "head").flops, 2 * 2 * 288768.0 * 16384 * 128256);
}

// For --keep_layers the weights are read a second time, without evaluation and output; for --max_kl
// everything may happen twice.
TEST(PlanPhases, MeasuringIsAPassOfItsOwn) {
  JobWork work = WorkOf("llama-3.1-8b");
  const MemoryChoice memory = ChoosePassPlan(work.shape, 64 * kGib);
  const PhasePlan plain = SumOf(PlanPhases(work, memory, nullptr));
  work.measuring = JobWork::Measuring::kErrors;
  work.kept_bytes = 1'000'000;
  const std::vector<PhasePlan> phases = PlanPhases(work, memory, nullptr);
  EXPECT_EQ(phases.front().name, "measuring");
  const PhasePlan& measuring = phases.front();
  EXPECT_EQ(measuring.read_bytes, work.layer_bytes + work.embedding_bytes);
  EXPECT_EQ(measuring.written_bytes, 0);
  EXPECT_LT(measuring.flops, 0.3 * plain.flops);
  EXPECT_EQ(SumOf(phases).written_bytes, plain.written_bytes + 1'000'000);
  work.measuring = JobWork::Measuring::kEverything;
  work.kept_bytes = 0;
  const PhasePlan twice = SumOf(PlanPhases(work, memory, nullptr));
  EXPECT_EQ(twice.read_bytes, 2 * plain.read_bytes);
  EXPECT_EQ(twice.written_bytes, 2 * plain.written_bytes);
  EXPECT_DOUBLE_EQ(twice.flops, 2 * plain.flops);
}

// F16 weights are not exactly bf16: what a tight budget does not keep of them is read again to be
// measured and rounded, and o's for the basis of the heads.
TEST(PlanPhases, WhatIsNotReadAheadOfF16IsReadAgain) {
  JobWork work = WorkOf("llama-3.1-8b");
  work.shape.stored = Dtype::kF16;
  const auto read = [&](int64_t ahead) {
    MemoryChoice memory = ChoosePassPlan(work.shape, 64 * kGib);
    memory.plan.read_ahead_bytes = ahead;
    return Phase(PlanPhases(work, memory, nullptr), "layers").read_bytes;
  };
  const int64_t linears = 32 * LayerWeightCount(work.shape.layer()) * 2;
  const int64_t all = std::numeric_limits<int64_t>::max() / 64;
  EXPECT_EQ(read(all), work.layer_bytes);
  work.shape.head_basis = HeadBasis::kFitted;
  const int64_t norms = work.layer_bytes - linears;
  EXPECT_EQ(read(0), 3 * (linears + norms) + 32LL * 4096 * 4096 * 2);
  work.shape.head_basis = HeadBasis::kOriginal;
  work.shape.rounding = RoundingAlgorithm::kNearest;
  EXPECT_EQ(read(0), 2 * (linears + norms));
}

TEST(PlanPhases, AttributionAddsItsModelsAndTheProbeItsTokens) {
  JobWork work = WorkOf("llama-3.1-8b");
  const MemoryChoice memory = ChoosePassPlan(work.shape, 64 * kGib);
  const auto phases_of = [&] { return PlanPhases(work, memory, nullptr); };
  const int64_t states = HiddenStateBytes(work.shape);
  const double layers = Phase(phases_of(), "layers").flops;
  const double head = Phase(phases_of(), "head").flops;
  work.shape.attribution_tokens = 4 * 2048;
  work.shape.attribution_variants = 2;
  work.shape.probe_tokens = 512;
  EXPECT_EQ(HiddenStateBytes(work.shape) - states, (2 * 4 * 2048 + 512) * 4096LL * 4);
  const double matrices = 32.0 * static_cast<double>(LayerWeightCount(work.shape.layer()));
  const double attention = 32.0 * 32 * 128 * 4 * (2 * 8192 * 2048.0 / 2 + 6 * 512 * 256.0 / 2);
  EXPECT_NEAR((Phase(phases_of(), "layers").flops - layers) /
                  (2 * matrices * (2 * 8192 + 6 * 512) + attention),
              1, 1e-3);
  EXPECT_DOUBLE_EQ(Phase(phases_of(), "head").flops - head, 3 * 2 * 8192.0 * 4096 * 128256);
  work.shape.evaluation_tokens = 0;
  EXPECT_EQ(AttributedTokens(work.shape), 0);
}

TEST(PlanPhases, NothingSpillsIntoEnoughMemory) {
  const JobWork work = WorkOf("llama-3.1-8b");
  const MemoryChoice memory = ChoosePassPlan(work.shape, 64 * kGib);
  const PhasePlan total = SumOf(PlanPhases(work, memory, nullptr));
  EXPECT_EQ(total.spill_written_bytes, 0);
  EXPECT_EQ(total.spill_read_bytes, 0);
}

TEST(PlanPhases, SecondsAddUpAndFollowTheRates) {
  const JobWork work = WorkOf("llama-3.1-405b");
  const MemoryChoice memory = ChoosePassPlan(work.shape, 12 * kGib);
  MachineRates rates = Rates();
  const std::vector<PhasePlan> phases = PlanPhases(work, memory, &rates);
  for (const PhasePlan& phase : phases) {
    double sum = 0;
    for (const NamedSeconds& part : phase.parts) {
      EXPECT_GT(part.seconds, 0) << part.what;
      sum += part.seconds;
    }
    EXPECT_DOUBLE_EQ(sum, phase.seconds) << phase.name;
  }
  const double seconds = SumOf(phases).seconds;
  for (double* rate :
       {&rates.products, &rates.layer, &rates.quantized_layer, &rates.hessian, &rates.factoring,
        &rates.rounding, &rates.packing, &rates.rewriting, &rates.disk_read, &rates.disk_write}) {
    *rate *= 2;
  }
  EXPECT_NEAR(SumOf(PlanPhases(work, memory, &rates)).seconds, seconds / 2, seconds * 1e-9);
}

// Ranks share texts, sums, factors and rounding, pack each, and exchange what they divide.
TEST(PlanPhases, RanksDivideAndExchange) {
  const JobWork whole = WorkOf("llama-3.1-405b");
  JobWork shared = whole;
  shared.shape.ranks = 4;
  shared.shape.calibration_tokens /= 4;
  shared.shape.evaluation_tokens /= 4;
  const MemoryChoice memory = ChoosePassPlan(whole.shape, 400 * kGib);
  ASSERT_EQ(memory.hessian_block_columns, 0);
  MachineRates rates = Rates();
  rates.network = 1.25e9;
  const PhasePlan alone = Phase(PlanPhases(whole, memory, &rates), "layers");
  const PhasePlan one_of_four = Phase(PlanPhases(shared, memory, &rates), "layers");
  EXPECT_EQ(alone.exchanged_bytes, 0);
  const auto seconds = [](const PhasePlan& phase, std::string_view what) {
    for (const NamedSeconds& part : phase.parts) {
      if (part.what == what) return part.seconds;
    }
    return 0.0;
  };
  for (const char* divided : {"forward steps", "second-order statistics", "factorization"}) {
    EXPECT_NEAR(seconds(one_of_four, divided), seconds(alone, divided) / 4, 1e-6) << divided;
  }
  EXPECT_LT(seconds(one_of_four, "rounding"), seconds(alone, "rounding"));
  EXPECT_EQ(seconds(one_of_four, "packing"), seconds(alone, "packing"));
  // bf16 inputs of all tokens, half of each square of sums in f32 and of factors in f64, a byte for
  // each weight.
  const double widths = 3 * 16384.0 + 53248.0;
  const double squares = 3 * 16384.0 * 16384.0 + 53248.0 * 53248.0;
  const double layer = 65536 * 2 * widths + (2 + 4) * squares +
                       static_cast<double>(LayerWeightCount(whole.shape.layer()));
  EXPECT_NEAR(static_cast<double>(one_of_four.exchanged_bytes) / (126 * layer), 1, 1e-9);
  EXPECT_NEAR(seconds(one_of_four, "exchange between ranks"), 126 * layer / 1.25e9, 1e-3);
  EXPECT_GT(Phase(PlanPhases(shared, memory, &rates), "head").exchanged_bytes, 0);
}

TEST(PlanPhases, ASlowDiskHidesBehindComputingUntilItIsSlower) {
  JobWork work = WorkOf("llama-3.1-8b");
  const MemoryChoice memory = ChoosePassPlan(work.shape, 64 * kGib);
  MachineRates rates = Rates();
  const auto of_disk = [&] {
    double seconds = 0;
    const std::vector<PhasePlan> phases = PlanPhases(work, memory, &rates);
    for (const NamedSeconds& part : Phase(phases, "layers").parts) {
      if (part.what == "reading and writing beyond computing") seconds = part.seconds;
    }
    return seconds;
  };
  EXPECT_EQ(of_disk(), 0);
  rates.disk_read = 1e5;
  EXPECT_GT(of_disk(), 0);
}

TEST(Plan, RefusalNamesTheSmallestBudgetAndTheFlagThatHelpsMost) {
  ScratchDirectory scratch;
  const JobDirectories directories = {scratch.path() / "output", scratch.path() / "work"};
  const JobWork work = WorkOf("llama-3.1-405b");
  try {
    MakePlan(work, directories, 2 * kGib, std::nullopt);
    FAIL() << "2 GiB should not do";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemoryBudget);
    EXPECT_THAT(error.what(), testing::HasSubstr("--quant_algo none helps most"));
    double gib = 0;
    const std::string message = error.what();
    const auto at = message.find("--memory_budget that would do is ");
    ASSERT_NE(at, std::string::npos) << message;
    ASSERT_EQ(std::sscanf(message.c_str() + at + 33, "%lfGiB", &gib), 1) << message;
    EXPECT_NO_THROW(ChoosePassPlan(work.shape, static_cast<int64_t>(gib * 0x1p30)));
  }
}

TEST(Plan, ADiskThatIsTooSmallIsRefusedWithTheFlagThatHelpsMost) {
  ScratchDirectory scratch;
  JobWork work = WorkOf("llama-3.1-405b");
  JobPlan plan =
      MakePlan(work, {scratch.path() / "output", scratch.path() / "work"}, 12 * kGib, std::nullopt);
  ASSERT_EQ(plan.disks.size(), 1u);
  EXPECT_EQ(plan.disks[0].needed_bytes, work.output_bytes() + 2 * HiddenStateBytes(work.shape));
  plan.disks[0].free_bytes = plan.disks[0].needed_bytes;
  EXPECT_NO_THROW(CheckDisks(plan));
  plan.disks[0].free_bytes -= 1;
  try {
    CheckDisks(plan);
    FAIL() << "one byte is missing";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), testing::HasSubstr("--skip_evaluation"));
  }
}

TEST(Plan, WhatAnInterruptedRunLeftNeedsNoSpaceAgain) {
  ScratchDirectory scratch;
  const JobWork work = WorkOf("llama-3.1-8b");
  const JobDirectories directories = {scratch.path() / "output", scratch.path() / "work"};
  const int64_t before =
      MakePlan(work, directories, 64 * kGib, std::nullopt).disks.at(0).needed_bytes;
  for (const char* name : {".output.partial", "work"}) {
    std::filesystem::create_directory(scratch.path() / name);
    std::ofstream(scratch.path() / name / "file") << std::string(1 << 20, 'x');
  }
  const int64_t after =
      MakePlan(work, directories, 64 * kGib, std::nullopt).disks.at(0).needed_bytes;
  EXPECT_LE(after, before - (2 << 20));
}

TEST(ShortPlan, IsTwoLines) {
  ScratchDirectory scratch;
  const JobPlan plan =
      MakePlan(WorkOf("llama-3.1-8b"), {scratch.path() / "output", scratch.path() / "work"},
               4 * kGib, Rates());
  EXPECT_THAT(ShortPlan(plan), testing::ElementsAre(testing::HasSubstr("Memory: "),
                                                    testing::HasSubstr("to expect")));
  const Json json = PlanJson(plan);
  EXPECT_EQ(json["total"]["read_bytes"], plan.total.read_bytes);
  EXPECT_EQ(json["phases"].size(), plan.phases.size());
  EXPECT_THAT(RenderPlan(plan), testing::HasSubstr("Most time is saved by"));
}

}  // namespace
}  // namespace narrow
