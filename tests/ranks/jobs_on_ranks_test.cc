// Whole jobs divided over ranks: what they write is what one process writes.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>

#include "base/interrupt.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "base/socket_ranks.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "jobs/compare.h"
#include "jobs/quantize.h"
#include "jobs/scheme_choice.h"
#include "report/measured_members.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

Json WithoutMeasured(const Json& json) {
  if (json.is_array()) {
    Json kept = Json::array();
    for (const Json& value : json) kept.push_back(WithoutMeasured(value));
    return kept;
  }
  if (!json.is_object()) return json;
  Json kept = Json::object();
  for (const auto& [name, value] : json.items()) {
    if (std::ranges::find(kMeasuredMembers, name) == kMeasuredMembers.end()) {
      kept[name] = WithoutMeasured(value);
    }
  }
  return kept;
}

// Asks for a stop once so much of the layers is done.
class StopAfter final : public ProgressSink {
 public:
  explicit StopAfter(int64_t parts) : left_(parts) {}
  void Info(std::string_view) override {}
  void Warning(std::string_view) override {}
  void BeginPhase(std::string_view, int64_t, std::string_view) override {}
  void Skip(int64_t) override {}
  void Advance(int64_t done) override {
    left_ -= done;
    if (left_ <= 0) RequestStop(SIGTERM);
  }
  void EndPhase() override {}

 private:
  int64_t left_;
};

class JobsOnRanks : public testing::Test {
 protected:
  std::filesystem::path Path(const std::string& name) const { return scratch_.path() / name; }

  // A tiny model, and a job whose texts fall into shares of different lengths.
  QuantizeRequest Request() {
    WriteTinyModel(Path("model"), {.layers = 3, .rope = TinyModel::Rope::kLlama3});
    QuantizeRequest request;
    request.model_directory = Path("model");
    request.calibration.dataset.source = "builtin";
    request.calibration.samples = 11;
    request.calibration.max_tokens = 150;
    request.evaluation.emplace();
    request.evaluation->dataset.source = "builtin";
    request.evaluation->windows = 5;
    request.evaluation->window_tokens = 128;
    request.attribution_windows = 3;
    request.cache = CacheScheme::kFp8;
    request.weight_scales = WeightScales::kPerMatrix;
    request.save_interval_seconds = 0;
    return request;
  }

  // Runs on that many ranks; true when all of them came to the end.
  bool Quantize(QuantizeRequest request, const std::string& output, int ranks,
                int64_t stop_after = std::numeric_limits<int64_t>::max(),
                const std::vector<std::string>& hosts = {}) {
    request.output_directory = Path(output);
    request.work_directory = Path("work");
    const auto work = [&] {
      SetThreadCount(1);
      StopAfter progress(stop_after);
      RunQuantize(request, progress);
    };
    return RunOnRanks(ranks, work, errors_, hosts);
  }

  std::string Errors() const { return fmt::format("{}", fmt::join(errors_, "; ")); }

  // All files but those with times, and of the report what is not measured.
  void ExpectSame(const std::string& a, const std::string& b) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(Path(a))) {
      names.push_back(entry.path().filename().string());
    }
    EXPECT_GE(names.size(), 6u);
    for (const std::string& name : names) {
      if (name == "report.html" || name == "README.md" || name == "narrow-output.json") continue;
      const std::string first = ReadFile(Path(a) / name), second = ReadFile(Path(b) / name);
      if (name == "narrow-report.json") {
        EXPECT_EQ(WithoutMeasured(ParseJson(first, a)), WithoutMeasured(ParseJson(second, b)));
      } else {
        EXPECT_TRUE(first == second) << name;
      }
    }
  }

  void ExpectSameForAnyRanks(const QuantizeRequest& request) {
    ASSERT_TRUE(Quantize(request, "alone", 1)) << Errors();
    // Through shared memory, by messages, and on hosts that have several.
    const std::vector<std::vector<std::string>> jobs = {
        {"a", "a"}, {"a", "b"}, {"a", "a", "a"}, {"a", "b", "c"}, {"a", "b", "a", "b"}};
    for (const std::vector<std::string>& hosts : jobs) {
      const std::string output = fmt::format("ranks-{}", fmt::join(hosts, "-"));
      ASSERT_TRUE(Quantize(request, output, static_cast<int>(hosts.size()),
                           std::numeric_limits<int64_t>::max(), hosts))
          << Errors();
      ExpectSame("alone", output);
    }
  }

  ScratchDirectory scratch_;
  std::vector<std::string> errors_;
};

TEST_F(JobsOnRanks, TheContractWritesTheSameBytes) { ExpectSameForAnyRanks(Request()); }

TEST_F(JobsOnRanks, SharedScalesInFloat32WriteTheSameBytes) {
  QuantizeRequest request = Request();
  request.weight_scales = WeightScales::kPerFusedGroup;
  request.export_format = "quark";
  request.data_type = DataType::kFloat32;
  request.attention = AttentionFigures::kFloat8;
  ExpectSameForAnyRanks(request);
}

TEST_F(JobsOnRanks, RoundingToNearestWritesTheSameBytes) {
  QuantizeRequest request = Request();
  request.rounding = RoundingAlgorithm::kNearest;
  request.evaluation.reset();
  ExpectSameForAnyRanks(request);
}

// Factors are divided, too, by rows of 128.
TEST_F(JobsOnRanks, WideLayersWriteTheSameBytes) {
  QuantizeRequest request = Request();
  WriteTinyModel(Path("model"), {.layers = 2, .hidden = 320, .intermediate = 640, .head_size = 80});
  ExpectSameForAnyRanks(request);
}

TEST_F(JobsOnRanks, WhatIsKeptByErrorIsTheSame) {
  QuantizeRequest request = Request();
  request.keep.groups = 2;
  ExpectSameForAnyRanks(request);
}

// More ranks than texts.
TEST_F(JobsOnRanks, IdleRanksChangeNothing) {
  QuantizeRequest request = Request();
  request.calibration.samples = 2;
  request.evaluation->windows = 1;
  ExpectSameForAnyRanks(request);
}

TEST_F(JobsOnRanks, AnotherNumberOfRanksContinues) {
  const QuantizeRequest request = Request();
  ASSERT_TRUE(Quantize(request, "alone", 1)) << Errors();
  for (const auto& [before, after] : {std::pair{3, 2}, {1, 4}, {2, 1}}) {
    const std::string output = fmt::format("resumed-{}-{}", before, after);
    ASSERT_FALSE(Quantize(request, output, before, 3 * kPartsPerLayer / 2));
    EXPECT_NE(errors_[0].find("finished layers are saved"), std::string::npos) << Errors();
    ASSERT_TRUE(std::filesystem::exists(Path("work") / "state.json"));
    ASSERT_TRUE(Quantize(request, output, after)) << Errors();
    ExpectSame("alone", output);
  }
}

TEST_F(JobsOnRanks, AnotherModelOnAHostIsRefusedNamingIt) {
  const QuantizeRequest request = Request();
  WriteTinyModel(Path("other"), {.layers = 3, .rope = TinyModel::Rope::kLlama3, .seed = 2});
  const auto work = [&] {
    SetThreadCount(1);
    QuantizeRequest own = request;
    own.output_directory = Path("output");
    if (JobRanks().rank() == 1) own.model_directory = Path("other");
    SilentProgress progress;
    RunQuantize(own, progress);
  };
  EXPECT_FALSE(RunOnRanks(3, work, errors_, {"h1", "h2", "h3"}));
  EXPECT_NE(errors_[0].find("the final norm differs"), std::string::npos) << Errors();
  EXPECT_NE(errors_[0].find("rank 1 on h2"), std::string::npos) << Errors();
  EXPECT_FALSE(std::filesystem::exists(Path("output")));
}

TEST_F(JobsOnRanks, EvaluationFindsTheSameLosses) {
  QuantizeRequest quantized = Request();
  ASSERT_TRUE(Quantize(quantized, "quantized", 1)) << Errors();
  for (const char* model : {"model", "quantized"}) {
    std::string alone;
    for (const int ranks : {1, 2, 3, 4}) {
      const auto work = [&] {
        SetThreadCount(1);
        EvaluateRequest request;
        request.model_directory = Path(model);
        request.evaluation = *quantized.evaluation;
        SilentProgress progress;
        const EvaluateResult result = RunEvaluate(request, progress);
        const std::string said =
            fmt::format("{} {} {}", result.perplexity, result.perplexity_bf16_attention.value_or(0),
                        fmt::join(result.window_nll, " "));
        WriteFile(Path(fmt::format("losses-{}", JobRanks().rank())), said);
      };
      ASSERT_TRUE(RunOnRanks(ranks, work, errors_)) << Errors();
      for (int rank = 0; rank < ranks; ++rank) {
        const std::string losses = ReadFile(Path(fmt::format("losses-{}", rank)));
        if (alone.empty()) alone = losses;
        EXPECT_EQ(losses, alone) << model << " on rank " << rank << " of " << ranks;
      }
    }
  }
}

TEST_F(JobsOnRanks, ComparisonFindsTheSameFigures) {
  const QuantizeRequest quantized = Request();
  ASSERT_TRUE(Quantize(quantized, "quantized", 1)) << Errors();
  std::string alone;
  for (const int ranks : {1, 2, 3, 4}) {
    const auto work = [&] {
      SetThreadCount(1);
      CompareRequest request;
      request.reference_directory = Path("model");
      request.model_directory = Path("quantized");
      request.evaluation = *quantized.evaluation;
      SilentProgress progress;
      const std::string said = RenderComparisonJson(RunCompare(request, progress));
      WriteFile(Path(fmt::format("figures-{}", JobRanks().rank())),
                WithoutMeasured(ParseJson(said, "the figures")).dump());
    };
    ASSERT_TRUE(RunOnRanks(ranks, work, errors_)) << Errors();
    for (int rank = 0; rank < ranks; ++rank) {
      const std::string figures = ReadFile(Path(fmt::format("figures-{}", rank)));
      if (alone.empty()) alone = figures;
      EXPECT_EQ(figures, alone) << "on rank " << rank << " of " << ranks;
    }
  }
}

TEST_F(JobsOnRanks, APlanSaysWhatIsExchanged) {
  const QuantizeRequest request = Request();
  const auto plan = [&](const std::string& network) {
    return RunNarrow({"plan", "--model_dir", request.model_directory.string(), "--output_dir",
                      Path("output").string(), "--ranks", "4", "--network", network, "--json",
                      Path("plan.json").string()});
  };
  for (const char* wrong : {"10", "10 Gbit", "-1Gbit", "0Mbit", "fast", "1e9Gbit"}) {
    const CommandResult refused = plan(wrong);
    EXPECT_EQ(refused.status, 2) << wrong << ": " << refused.error;
  }
  const CommandResult planned = plan("10Gbit");
  ASSERT_EQ(planned.status, 0) << planned.error;
  EXPECT_NE(planned.output.find("4 ranks"), std::string::npos) << planned.output;
  int64_t bytes = 0;
  const Json json = ReadJsonFile(Path("plan.json").string());
  for (const Json& phase : json["phases"]) {
    bytes += phase.value("exchanged_bytes", int64_t{0});
  }
  EXPECT_GT(bytes, 0);
}

// With a forward pass: as many rules of rounding as there are kinds of scales.
class SchemesOnRanks : public JobsOnRanks, public testing::WithParamInterface<const char*> {};

TEST_P(SchemesOnRanks, WriteTheSameBytes) {
  QuantizeRequest request = Request();
  WriteTinyModel(Path("model"), {.layers = 2, .hidden = 256, .intermediate = 384, .head_size = 64});
  request.schemes = QuantizeRequest::Schemes{RecipeOfScheme(GetParam()), "", {}, false};
  request.rounding = DefaultRounding(request.schemes->recipe);
  request.head_basis = HeadBasis::kOriginal;
  request.weight_scales = WeightScales::kPerFusedGroup;
  request.cache = CacheScheme::kNone;
  ExpectSameForAnyRanks(request);
  if (request.rounding == RoundingAlgorithm::kCompensated) return;
  request.rounding = RoundingAlgorithm::kCompensated;
  std::filesystem::remove_all(Path("alone"));
  ASSERT_TRUE(Quantize(request, "alone", 1)) << Errors();
  ASSERT_TRUE(Quantize(request, "compensated-3", 3)) << Errors();
  ExpectSame("alone", "compensated-3");
}

INSTANTIATE_TEST_SUITE_P(All, SchemesOnRanks,
                         testing::Values("FP8_DYNAMIC", "FP8_BLOCK", "W8A8", "W4A16", "W4A16_ASYM",
                                         "MXFP4", "MXFP8", "NVFP4"),
                         [](const auto& test) { return std::string(test.param); });

// What families have beside Llama: windows, caps and norms of heads; no gate; norms after blocks.
class FamiliesOnRanks : public JobsOnRanks, public testing::WithParamInterface<const char*> {};

TEST_P(FamiliesOnRanks, WriteTheSameBytes) {
  const std::string model = SharedPath(std::string("golden/families/") + GetParam());
  if (model.empty()) GTEST_SKIP() << "../shared/golden/families/" << GetParam() << " is not there";
  const Json reference = ReadJsonFile(model + "/reference.json");
  QuantizeRequest request = Request();
  request.model_directory = model;
  request.calibration.dataset.source = PutIds(scratch_, "ids.jsonl", reference["tokens"]);
  request.evaluation->dataset.source = request.calibration.dataset.source;
  ExpectSameForAnyRanks(request);
}

INSTANTIATE_TEST_SUITE_P(Shared, FamiliesOnRanks,
                         testing::Values("tiny-gemma3", "tiny-nemotron", "tiny-olmo2", "tiny-phi3",
                                         "tiny-qwen3-moe", "tiny-deepseek-v3", "tiny-gpt-oss"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace narrow
