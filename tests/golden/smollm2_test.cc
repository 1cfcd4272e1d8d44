// Runs of the real command on SmolLM2 against what transformers and AMD Quark computed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <sstream>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"

namespace narrow {
namespace {

// Doing what Quark does, and nothing more.
class SmolLm2 : public testing::Test {
 protected:
  static constexpr std::size_t kWindows = 3;  // of the reference's 8
  static void SetUpTestSuite() {
    if (!Missing().empty()) return;
    scratch_ = std::make_unique<ScratchDirectory>();
    const CommandResult result =
        RunNarrow(QuantizeArguments(SmolLm2Path(), Output(),
                                    {"--quant_algo", "none", "--head_basis", "none", "--dataset",
                                     SharedPath("data/text/pile_sample.jsonl"), "--eval_data",
                                     SharedPath("data/text/wiki.test.raw"), "--eval_windows",
                                     std::to_string(kWindows), "--eval_window_order", "first",
                                     "--attribution_windows", "0", "--attention", "bf16"}),
                  {.timeout_seconds = 2600});
    ASSERT_EQ(result.status, 0) << result.error;
    report_ = ReadJsonFile(Output() + "/narrow-report.json");
    scales_ = ReadJsonFile(SharedPath("golden/smollm2-135m/quark_scales.json"))["scales"];
  }
  static void TearDownTestSuite() { scratch_.reset(); }

  void SetUp() override {
    if (!Missing().empty()) GTEST_SKIP() << Missing();
    if (report_.is_null()) GTEST_FAIL() << "the run failed";
  }

  static std::string Output() { return (scratch_->path() / "SmolLM2-FP8").string(); }
  static std::string Missing() {
    if (SmolLm2Path().empty()) return "the SmolLM2 checkpoint is not there";
    return SharedPath("golden/smollm2-135m").empty() ? "the shared golden data is not there" : "";
  }
  // Losses of the windows that the job evaluated, as `model` of the reference has them.
  static std::vector<double> ReferenceLosses(const char* model) {
    const Json reference = ReadJsonFile(SharedPath("golden/smollm2-135m/reference.json"));
    auto losses = reference[model]["window_nll"].get<std::vector<double>>();
    losses.resize(kWindows);
    return losses;
  }

  // |ours / Quark's - 1| of a scale of every linear, in ascending order.
  static std::vector<double> Deviations(const char* records, const char* scale) {
    std::vector<double> deviations;
    for (const Json& record : report_[records]) {
      std::string module = record["name"].get<std::string>();
      if (module.ends_with(".weight")) module.resize(module.size() - 7);
      const double quark = scales_.at(module)[scale].get<double>();
      deviations.push_back(std::fabs(record["scale"].get<double>() / quark - 1.0));
    }
    std::sort(deviations.begin(), deviations.end());
    return deviations;
  }

  static std::unique_ptr<ScratchDirectory> scratch_;
  static Json report_;
  static Json scales_;
};

std::unique_ptr<ScratchDirectory> SmolLm2::scratch_;
Json SmolLm2::report_;
Json SmolLm2::scales_;

TEST_F(SmolLm2, CalibrationTokensAreQuarks) {
  const CommandResult result = RunNarrow({"tokenize", "--model_dir", SmolLm2Path(), "--input_file",
                                          SharedPath("data/text/pile_sample.jsonl")});
  ASSERT_EQ(result.status, 0) << result.error;
  const Json golden = ReadJsonFile(SharedPath("golden/smollm2-135m/calibration_tokens.json"));
  std::istringstream lines(result.output);
  std::string line;
  int64_t tokens = 0;
  for (const Json& expected : golden["samples"]) {
    ASSERT_TRUE(std::getline(lines, line));
    auto ids = ParseJson(line, "tokens").get<std::vector<int32_t>>();
    ids.resize(std::min<std::size_t>(ids.size(), 512));
    ASSERT_EQ(ids, expected.get<std::vector<int32_t>>());
    tokens += std::ssize(ids);
  }
  EXPECT_EQ(report_["calibration"]["samples"].get<int64_t>(), std::ssize(golden["samples"]));
  EXPECT_EQ(report_["calibration"]["tokens"].get<int64_t>(), tokens);
}

TEST_F(SmolLm2, WeightScalesAreQuarksUpToItsRounding) {
  const std::vector<double> deviations = Deviations("weights", "weight_scale");
  ASSERT_EQ(deviations.size(), 210u);
  EXPECT_LE(deviations.back(), 0x1p-8);
}

TEST_F(SmolLm2, InputScalesAreCloseToQuarks) {
  const std::vector<double> deviations = Deviations("inputs", "input_scale");
  ASSERT_EQ(deviations.size(), 210u);
  EXPECT_LE(deviations[deviations.size() / 2], 0.01);
  EXPECT_LE(deviations.back(), 0.05);
}

// Of the first windows, all of the same length.
double Perplexity(const std::vector<double>& losses) {
  return std::exp(std::accumulate(losses.begin(), losses.end(), 0.0) /
                  static_cast<double>(losses.size()));
}

TEST_F(SmolLm2, OriginalPerplexityIsTransformers) {
  const std::vector<double> expected = ReferenceLosses("hf_float32");
  const Json& evaluation = report_["evaluation"];
  EXPECT_NEAR(evaluation["perplexity"]["original"].get<double>(), Perplexity(expected),
              0.002 * Perplexity(expected));
  const Json& ours = evaluation["window_nll"]["original"];
  ASSERT_EQ(ours.size(), kWindows);
  for (std::size_t i = 0; i < kWindows; ++i) {
    // transformers' own bfloat16 run is up to 0.002 away from its float32 one.
    EXPECT_NEAR(ours[i].get<double>(), expected[i], 0.004) << "window " << i;
  }
}

TEST_F(SmolLm2, PseudoQuantizedPerplexityIsNotWorseThanQuarks) {
  const double quark = Perplexity(ReferenceLosses("quark_0.13_pseudo_fp8_kv"));
  const Json& perplexity = report_["evaluation"]["perplexity"];
  const double ours = perplexity["pseudo"].get<double>();
  EXPECT_LE(ours, 1.015 * quark);
  EXPECT_GT(ours, perplexity["original"].get<double>());
}

// As users run it but for the figures of FP8 attention, against Quark's checkpoint of the same
// documents as vLLM runs it on a CPU, the cache dequantized, on the same windows. Measured: 63 % of
// Quark's divergence and 59 to 66 % of its loss over four calibration texts (docs/accuracy.md);
// another instruction set rounds otherwise again.
TEST(SmolLm2AsDeployed, LosesLessThanQuark) {
  if (SmolLm2Path().empty()) GTEST_SKIP() << "the SmolLM2 checkpoint is not there";
  if (SharedPath("golden/smollm2-135m").empty()) GTEST_SKIP() << "the shared data is not there";
  const ScratchDirectory scratch;
  const std::string output = (scratch.path() / "SmolLM2-FP8").string();
  const CommandResult result = RunNarrow(
      QuantizeArguments(SmolLm2Path(), output,
                        {"--dataset", SharedPath("data/text/pile_sample.jsonl"), "--eval_data",
                         SharedPath("data/text/wiki.test.raw"), "--eval_windows", "24",
                         "--attribution_windows", "0", "--attention", "bf16"}),
      {.timeout_seconds = 2600});
  ASSERT_EQ(result.status, 0) << result.error;
  const Json evaluation = ReadJsonFile(output + "/narrow-report.json")["evaluation"];
  const Json quark = ReadJsonFile(SharedPath("golden/smollm2-135m/quark_deployed.json"));
  const double original = quark["original"]["perplexity"].get<double>();
  EXPECT_NEAR(evaluation["perplexity"]["original"].get<double>(), original, 0.003 * original);
  EXPECT_LT(evaluation["kl"]["deployed"].get<double>(),
            0.68 * quark["deployed"]["kl"].get<double>());
  const auto loss = [](const Json& ppl, const char* model) {
    return std::log(ppl[model].get<double>() / ppl["original"].get<double>());
  };
  EXPECT_LT(loss(evaluation["perplexity"], "deployed"),
            0.78 * quark["deployed"]["nll_increase"][0].get<double>());
}

TEST_F(SmolLm2, InspectionFindsNothing) {
  const CommandResult result = RunNarrow({"inspect", Output()});
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, testing::HasSubstr("no problems found"));
}

}  // namespace
}  // namespace narrow
