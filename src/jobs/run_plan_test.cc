#include "jobs/run_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/file.h"
#include "io/scratch_directory.h"
#include "synthesis/checkpoint.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

// A directory with the config.json of a preset and nothing else, and a job on it.
class ConfigOnly {
 public:
  explicit ConfigOnly(std::string_view preset) {
    std::filesystem::create_directory(scratch_.path() / "model");
    WriteFileAtomically(scratch_.path() / "model" / "config.json", PresetConfig(preset).dump());
    request.job.model_directory = scratch_.path() / "model";
    request.job.output_directory = scratch_.path() / "output";
    request.job.evaluation.emplace();
  }
  std::filesystem::path path() const { return scratch_.path(); }

  PlanRequest request;

 private:
  ScratchDirectory scratch_;
};

TEST(RunPlan, NeedsNothingButConfigJson) {
  ConfigOnly job("tiny");
  const JobPlan plan = RunPlan(job.request);
  EXPECT_EQ(plan.work.shape.calibration_tokens, 128 * 512);
  EXPECT_EQ(plan.work.shape.evaluation_tokens, 141 * 2048);
  EXPECT_GT(plan.total.seconds, 0);
  ASSERT_TRUE(plan.rates);
  for (const double rate :
       {plan.rates->products, plan.rates->hessian, plan.rates->factoring, plan.rates->rounding,
        plan.rates->packing, plan.rates->disk_read, plan.rates->disk_write}) {
    EXPECT_GT(rate, 1e5);
  }
  EXPECT_EQ(plan.assumptions.size(), 3u);
  EXPECT_FALSE(std::filesystem::exists(job.path() / "output"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(job.path()), {}), 1)
      << "measuring the disk should leave nothing";
}

TEST(RunPlan, RespectsWhatIsSkippedAndExcluded) {
  ConfigOnly job("tiny");
  const JobPlan whole = RunPlan(job.request);
  job.request.job.exclude_patterns = {"*.down_proj"};
  const JobPlan excluded = RunPlan(job.request);
  const int64_t down = 2 * 64 * 192;  // weights of two layers, one more byte each; no scales
  EXPECT_EQ(excluded.work.output_bytes(), whole.work.output_bytes() + down - 2 * 8);
  EXPECT_LT(excluded.total.flops, whole.total.flops);
  job.request.job.evaluation.reset();
  const JobPlan skipped = RunPlan(job.request);
  EXPECT_EQ(skipped.work.shape.evaluation_tokens, 0);
  EXPECT_LT(skipped.total.flops, excluded.total.flops);
  job.request.job.exclude_patterns = {"*.no_such_linear"};
  EXPECT_THROW(RunPlan(job.request), Error);
}

TEST(RunPlan, EvaluationAloneWritesNothing) {
  ConfigOnly job("tiny");
  job.request.task = PlanRequest::Task::kEvaluate;
  const JobPlan plan = RunPlan(job.request);
  EXPECT_EQ(plan.total.written_bytes, 0);
  EXPECT_EQ(plan.work.output_bytes(), 0);
  EXPECT_EQ(plan.work.shape.evaluation_variants, 0);
}

TEST(RunPlan, AnIndexOfAnotherModelIsNoticed) {
  ConfigOnly job("tiny");
  WriteFileAtomically(job.request.job.model_directory / "model.safetensors.index.json",
                      R"({"metadata": {"total_size": 12345}, "weight_map": {}})");
  EXPECT_THAT(RunPlan(job.request).assumptions,
              testing::Contains(testing::HasSubstr("the index says")));
}

TEST(RunPlan, CountsTokensAndHeadersWhereTheyAre) {
  ScratchDirectory scratch;
  SynthesizeRequest synthesize;
  synthesize.output_directory = scratch.path() / "model";
  synthesize.config = PresetConfig("tiny");
  synthesize.config_name = "preset tiny";
  SilentProgress progress;
  RunSynthesize(synthesize, progress);
  PlanRequest request;
  request.job.model_directory = scratch.path() / "model";
  request.job.output_directory = scratch.path() / "output";
  request.job.calibration.dataset.source = "builtin";
  request.job.calibration.samples = 3;
  request.job.calibration.max_tokens = 100;
  request.job.evaluation.emplace();
  request.job.evaluation->dataset.source = "builtin";
  request.job.evaluation->windows = 2;
  request.job.evaluation->window_tokens = 128;
  const JobPlan plan = RunPlan(request);
  EXPECT_EQ(plan.work.shape.calibration_tokens, 300);
  EXPECT_EQ(plan.work.shape.evaluation_tokens, 256);
  EXPECT_TRUE(plan.assumptions.empty());
  // The plan's bytes are those the job then writes.
  request.job.version = "test";
  RunQuantize(request.job, progress);
  int64_t tensors = 0;
  const CheckpointReader output(scratch.path() / "output");
  for (const auto& tensor : output.tensors()) tensors += tensor.entry.bytes();
  int64_t copied = 0;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    copied += static_cast<int64_t>(std::filesystem::file_size(scratch.path() / "model" / name));
  }
  EXPECT_NEAR(static_cast<double>(plan.work.output_bytes()), static_cast<double>(tensors + copied),
              1024);
}

// The other arithmetic of attention is one network more, and so is the other of weight scales.
TEST(RunPlan, CountsTheNetworksThatAreEvaluated) {
  ConfigOnly job("tiny");
  QuantizeRequest& request = job.request.job;
  const auto shape = [&](CacheScheme cache, AttentionFigures attention) {
    request.cache = cache;
    request.attention = attention;
    return RunPlan(job.request).work.shape;
  };
  request.weight_scales = WeightScales::kPerFusedGroup;
  EXPECT_EQ(shape(CacheScheme::kNone, AttentionFigures::kBoth).evaluation_variants, 1);
  EXPECT_EQ(shape(CacheScheme::kFp8, AttentionFigures::kFloat8).evaluation_variants, 1);
  EXPECT_EQ(shape(CacheScheme::kFp8, AttentionFigures::kFloat8).attribution_variants, 3);
  EXPECT_EQ(shape(CacheScheme::kFp8, AttentionFigures::kBoth).evaluation_variants, 2);
  EXPECT_EQ(shape(CacheScheme::kFp8, AttentionFigures::kBoth).attribution_variants, 2);
  request.weight_scales = WeightScales::kPerMatrix;
  EXPECT_EQ(shape(CacheScheme::kFp8, AttentionFigures::kBoth).evaluation_variants, 3);
  EXPECT_EQ(shape(CacheScheme::kFp8, AttentionFigures::kDequantized).evaluation_variants, 2);
  const auto flags_of = [](const JobPlan& plan) {
    std::vector<std::string> flags;
    for (const Alternative& alternative : plan.alternatives) flags.push_back(alternative.flags);
    return flags;
  };
  EXPECT_THAT(flags_of(RunPlan(job.request)), testing::Not(testing::Contains("--attention bf16")));
  request.attention = AttentionFigures::kBoth;
  EXPECT_THAT(flags_of(RunPlan(job.request)), testing::Contains("--attention bf16"));
}

// Lines of token ids need no tokenizer to be counted, and the longest window sets the batches.
TEST(RunPlan, CountsTokenIdsWithoutATokenizer) {
  ConfigOnly job("tiny");
  const auto line = [](int64_t count) {
    return Json(std::vector<int>(static_cast<std::size_t>(count), 7)).dump() + "\n";
  };
  WriteFileAtomically(job.path() / "ids.jsonl", line(9000) + line(30) + line(10));
  job.request.job.calibration.dataset.source = (job.path() / "ids.jsonl").string();
  job.request.job.evaluation->dataset.source = (job.path() / "ids.jsonl").string();
  job.request.job.attribution_windows = 2;
  const JobPlan plan = RunPlan(job.request);
  const JobShape& shape = plan.work.shape;
  EXPECT_EQ(shape.calibration_tokens, 9040);
  EXPECT_EQ(shape.evaluation_tokens, 9040);
  EXPECT_EQ(shape.longest_sequence, 9000);
  EXPECT_EQ(shape.attribution_tokens, 9030);
  EXPECT_EQ(plan.work.window_tokens, (9000 * 9000 + 30 * 30 + 10 * 10) / 9040);
  EXPECT_THAT(plan.assumptions, testing::Not(testing::Contains(testing::HasSubstr("tokenizer"))));
}

}  // namespace
}  // namespace narrow
