// Linears that stay as they are because of their measured error.
#include <algorithm>
#include <map>
#include <set>

#include "tests/quality/quality_job.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;

class Keep : public QualityJob {
 protected:
  // Groups of the plain run, the worst first: what they are called, and their linears.
  static std::vector<std::pair<double, std::vector<std::string>>> Ranking(const Json& report) {
    static const std::map<std::string, std::vector<std::string>> kLinears = {
        {"qkv", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
        {"o", {"self_attn.o_proj"}},
        {"gate_up", {"mlp.gate_proj", "mlp.up_proj"}},
        {"down", {"mlp.down_proj"}}};
    std::vector<std::pair<double, std::vector<std::string>>> ranking;
    for (std::size_t i = 0; i < report["layers"].size(); ++i) {
      for (const auto& [part, linears] : kLinears) {
        auto& group = ranking.emplace_back();
        group.first = report["layers"][i]["error"]["parts"][part]["error"].get<double>();
        for (const std::string& linear : linears) {
          group.second.push_back("model.layers." + std::to_string(i) + "." + linear);
        }
      }
    }
    std::ranges::sort(ranking, std::ranges::greater(),
                      [](const auto& group) { return group.first; });
    return ranking;
  }

  static int64_t TensorBytes(const std::map<std::string, StoredTensor>& tensors) {
    int64_t bytes = 0;
    for (const auto& [name, tensor] : tensors) bytes += std::ssize(tensor.bytes);
    return bytes;
  }

  void ExpectRefused(const std::vector<std::string>& flags, const std::string& message) const {
    const CommandResult result = Run("output", flags);
    EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kInvalidArgument)) << result.error;
    EXPECT_THAT(result.LastErrorLine(), HasSubstr(message));
    EXPECT_FALSE(std::filesystem::exists(Path("output")));
    EXPECT_THAT(result.error, Not(HasSubstr(" layers\n")));
  }
};

TEST_F(Keep, TheWorstGroupsAreThoseOfTheSource) {
  const Json plain = Quantize("plain");
  for (const std::string mode : {"fp8", "quark"}) {
    const Json report =
        Quantize("kept", {"--overwrite", "--keep_layers", "3", "--custom_mode", mode});
    const auto source = ReadTensors(Path("model"));
    const auto output = ReadTensors(Path("kept"));
    std::set<std::string> expected = {"lm_head"};
    const auto ranking = Ranking(plain);
    for (std::size_t i = 0; i < 3; ++i) {
      expected.insert(ranking[i].second.begin(), ranking[i].second.end());
    }
    const Json config = ReadJsonFile(Path("kept") + "/config.json")["quantization_config"];
    const auto listed =
        config[mode == "fp8" ? "ignored_layers" : "exclude"].get<std::set<std::string>>();
    EXPECT_EQ(listed, expected);
    for (const auto& [name, tensor] : source) {
      const bool kept = expected.contains(name.substr(0, name.rfind('.')));
      if (!kept || name.ends_with(".bias")) continue;
      EXPECT_EQ(output.at(name).dtype, tensor.dtype) << name;
      EXPECT_TRUE(output.at(name).bytes == tensor.bytes) << name;
      EXPECT_FALSE(output.contains(name + "_scale")) << name;
    }
    const int64_t extra = TensorBytes(output) - TensorBytes(ReadTensors(Path("plain")));
    EXPECT_EQ(report["kept"]["extra_bytes"], extra);
    EXPECT_EQ(report["kept"]["checkpoint_bytes"], TensorBytes(output));
    ASSERT_EQ(report["kept"]["groups"].size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(report["kept"]["groups"][i]["linears"], ranking[i].second);
      EXPECT_EQ(report["kept"]["groups"][i]["error"], ranking[i].first);
    }
    EXPECT_LT(report["evaluation"]["kl"]["deployed"].get<double>(),
              plain["evaluation"]["kl"]["deployed"].get<double>());
    EXPECT_EQ(RunNarrow({"inspect", Path("kept")}).status, 0);
    EXPECT_THAT(ReadFile(Path("kept") + "/README.md"), HasSubstr(*ranking[0].second.begin()));
  }
}

TEST_F(Keep, EverythingLeavesTheOriginalNetwork) {
  const std::string all = std::to_string(kGroups);
  const Json report = Quantize("all", {"--keep_layers", all});
  EXPECT_EQ(report["evaluation"]["kl"]["deployed"], 0.0);
  EXPECT_EQ(report["evaluation"]["divergence"]["deployed"]["nll_increase"]["mean"], 0.0);
  const Json cached = Quantize("cached", {"--keep_layers", all, "--kv_cache_dtype", "fp8"});
  const Json& parts = cached["evaluation"]["attribution"]["parts"];
  EXPECT_EQ(parts[1]["kl"]["mean"], 0.0);
  EXPECT_GT(parts[2]["kl"]["mean"].get<double>(), 0.0);
}

TEST_F(Keep, WithoutEvaluationTheProbeIsOfTheCalibration) {
  const Json report = Quantize("output", {"--keep_layers", "2", "--skip_evaluation"});
  EXPECT_EQ(report["kept"]["groups"].size(), 2u);
  EXPECT_TRUE(report["evaluation"].is_null());
}

TEST_F(Keep, ExcludedGroupsAreNoCandidates) {
  ExpectRefused({"--keep_layers", "10", "--exclude_layers", "*self_attn.o_proj"}, "only 9 groups");
  const Json report =
      Quantize("output", {"--keep_layers", "9", "--exclude_layers", "*self_attn.o_proj"});
  EXPECT_EQ(report["kept"]["groups"].size(), 9u);
  for (const Json& group : report["kept"]["groups"]) {
    EXPECT_THAT(group["linears"][0].get<std::string>(), Not(HasSubstr("o_proj")));
  }
}

TEST_F(Keep, AKlThatHoldsAnywayTakesOnePass) {
  const Json plain = Quantize("plain");
  const Json report = Quantize("output", {"--max_kl", "5"});
  EXPECT_EQ(report["kept"]["groups"].size(), 0u);
  EXPECT_EQ(report["kept"]["max_kl"], 5.0);
  EXPECT_TRUE(report["seconds"]["measuring"].is_null());
  for (const std::string& name : Names(Path("plain"))) {
    if (!name.ends_with(".safetensors") && name != "config.json") continue;
    EXPECT_TRUE(ReadFile(Path("plain") + "/" + name) == ReadFile(Path("output") + "/" + name))
        << name;
  }
}

TEST_F(Keep, AsFewAsTheKlNeeds) {
  const double without = Quantize("plain")["evaluation"]["kl"]["deployed"].get<double>();
  const double limit = without * 0.6;
  const CommandResult result = Run("output", {"--max_kl", fmt::format("{}", limit)});
  ASSERT_EQ(result.status, 0) << result.error;
  const Json report = ReadJsonFile(Path("output") + "/narrow-report.json");
  const Json& kept = report["kept"];
  EXPECT_EQ(kept["kl_without"], without);
  const auto count = static_cast<int64_t>(kept["groups"].size());
  EXPECT_GT(count, 0);
  EXPECT_LT(count, kGroups);
  EXPECT_LE(kept["kl_predicted"].get<double>(), limit);
  // The prediction is proportional to the errors that stay, and one group less would not do.
  double share = 0, last = 0;
  for (const Json& group : kept["groups"]) share += last = group["share"].get<double>();
  EXPECT_NEAR(kept["kl_predicted"].get<double>(), without * (1 - share), 1e-9 * without);
  EXPECT_GT(without * (1 - share + last), limit);
  const double kl = report["evaluation"]["kl"]["deployed"].get<double>();
  const std::string verdict = report["evaluation"]["divergence"]["deployed"]["verdict"];
  EXPECT_EQ(verdict.find("above --max_kl") != std::string::npos, kl > limit) << verdict;
  EXPECT_THAT(result.output, HasSubstr(kl > limit ? "is ABOVE --max_kl" : "is within --max_kl"));
  EXPECT_GT(report["seconds"]["measuring"].get<double>(), 0.0);
}

TEST_F(Keep, AKlOutOfReachIsRefusedAfterTheFirstPass) {
  const CommandResult result =
      Run("output", {"--max_kl", "1e-9", "--kv_cache_dtype", "fp8", "--save_interval", "0"});
  EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kInvalidArgument)) << result.error;
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("of the KV cache"));
  EXPECT_FALSE(std::filesystem::exists(Path("output")));
  EXPECT_EQ(Names(scratch_.path()), std::set<std::string>{"model"});
}

TEST_F(Keep, NonsenseIsRefusedBeforeAnyWork) {
  ExpectRefused({"--keep_layers", "-1"}, "--keep_layers");
  ExpectRefused({"--keep_layers", "13"}, "--keep_layers 13: only 12 groups");
  ExpectRefused({"--max_kl", "-0.5"}, "--max_kl");
  ExpectRefused({"--max_kl", "0"}, "--max_kl");
  ExpectRefused({"--max_kl", "inf"}, "--max_kl");
  ExpectRefused({"--max_kl", "nan"}, "--max_kl");
  ExpectRefused({"--max_kl", "0.1", "--keep_layers", "1"}, "give one");
  ExpectRefused({"--max_kl", "0.1", "--skip_evaluation"}, "leave out --skip_evaluation");
  ExpectRefused({"--keep_layers", "1", "--skip_quantization"}, "leave out --skip_quantization");
  ExpectRefused({"--attribution_windows", "-1"}, "--attribution_windows");
  const CommandResult plan =
      RunNarrow({"plan", "--model_dir", Path("model"), "--keep_layers", "13"});
  EXPECT_EQ(plan.status, static_cast<int>(ErrorCode::kInvalidArgument));
}

TEST_F(Keep, ThePlanSaysThatWeightsAreReadTwice) {
  const CommandResult plan =
      RunNarrow({"plan", "--model_dir", Path("model"), "--keep_layers", "2"});
  ASSERT_EQ(plan.status, 0) << plan.error;
  EXPECT_THAT(plan.output, HasSubstr("measuring"));
  EXPECT_THAT(plan.output, HasSubstr("read twice"));
  const CommandResult help = RunNarrow({"quantize", "--help"});
  EXPECT_THAT(help.output, HasSubstr("a pass of its own before"));
}

}  // namespace
}  // namespace narrow
