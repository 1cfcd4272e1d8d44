// Experts of a layer, some in memory at a time: what must not change the result, and memory as the
// kernel counts it.
#include <random>
#include <sstream>

#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

using Clock = std::chrono::steady_clock;

struct MoeShape {
  int64_t layers = 2;
  int64_t hidden = 64;
  int64_t width = 32;  // of an expert
  int64_t experts = 12;
};

class Experts : public InterruptedJob {
 protected:
  void SetUp() override { WriteText("text.txt", 1); }

  // One with random weights, of a dense layer and some with experts.
  void MakeModel(const MoeShape& shape) const {
    const Json config = {{"architectures", {"Qwen3MoeForCausalLM"}},
                         {"model_type", "qwen3_moe"},
                         {"hidden_size", shape.hidden},
                         {"intermediate_size", 2 * shape.hidden},
                         {"moe_intermediate_size", shape.width},
                         {"num_hidden_layers", shape.layers},
                         {"num_attention_heads", 4},
                         {"num_key_value_heads", 2},
                         {"head_dim", 32},
                         {"vocab_size", 300},
                         {"num_experts", shape.experts},
                         {"num_experts_per_tok", 3},
                         {"norm_topk_prob", true},
                         {"decoder_sparse_step", 1},
                         {"mlp_only_layers", {0}},
                         {"tie_word_embeddings", false},
                         {"max_position_embeddings", 2048},
                         {"rms_norm_eps", 1e-06},
                         {"rope_theta", 10000.0}};
    WriteFile(Path("config.json"), config.dump());
    std::filesystem::remove_all(Path("model"));
    const CommandResult made =
        RunNarrow({"synthesize", Path("model"), "--config", Path("config.json")});
    ASSERT_EQ(made.status, 0) << made.error;
  }

  // Shared scales are about one per tensor.
  std::vector<std::string> Arguments(const std::string& output,
                                     const std::vector<std::string>& more) const override {
    std::vector<std::string> arguments = InterruptedJob::Arguments(output, more);
    if (scheme_) std::erase(arguments, "--no_weight_matrix_merge");
    return arguments;
  }

  std::string SmallestBudget(const std::vector<std::string>& flags) const {
    return Spilling(flags).back();
  }
  static int64_t Bytes(const std::string& budget) {
    return static_cast<int64_t>(std::stod(budget) * 0x1p30);  // "0.12GiB"
  }

  bool scheme_ = false;  // the job has one that is data
};

class ExpertBytes : public Experts, public testing::WithParamInterface<const char*> {};

// The smallest budget and plenty, one thread and two.
TEST_P(ExpertBytes, DependNeitherOnBudgetNorOnThreads) {
  MakeModel({.hidden = 256, .width = 256, .experts = 48});
  scheme_ = std::string(GetParam()).find("--quant_scheme") != std::string::npos;
  std::vector<std::string> flags;
  std::istringstream words(GetParam());
  for (std::string word; words >> word;) flags.push_back(word);
  const CommandResult plenty = Run("reference", flags);
  ASSERT_EQ(plenty.status, 0) << plenty.error;
  flags.insert(flags.end(), {"--memory_budget", SmallestBudget(flags)});
  const CommandResult small = Run("output", flags);
  ASSERT_EQ(small.status, 0) << small.error;
  ExpectSpilled(small);
  ExpectSameResult("reference", "output");
  std::filesystem::remove_all(Path("output"));
  flags.insert(flags.end(), {"--threads", "1"});
  ASSERT_EQ(Run("output", flags).status, 0);
  ExpectSameResult("reference", "output");
}

INSTANTIATE_TEST_SUITE_P(Flags, ExpertBytes,
                         testing::Values("--quant_algo none", "--quant_algo gptq",
                                         "--quant_algo none --calibrate_all_experts",
                                         "--quant_algo none --quant_scheme FP8_BLOCK",
                                         "--quant_algo gptq --quant_scheme MXFP4"));

// Every token is read by some expert either way; of what experts make of tokens that did not choose
// them, some is larger.
TEST_F(Experts, AllOfThemMayBeCalibratedOnAllTokens) {
  MakeModel({});
  const auto ranges = [&](const std::string& output, const std::vector<std::string>& flags) {
    const CommandResult result = Run(output, flags);
    EXPECT_EQ(result.status, 0) << result.error;
    std::map<std::string, double> of_inputs;
    const Json report = ReadJsonFile(Path(output) + "/narrow-report.json");
    for (const Json& input : report.at("inputs")) {
      const std::string name = input.at("name");
      if (name.find(".experts.") != name.npos) of_inputs[name] = input.at("amax");
    }
    return of_inputs;
  };
  const auto routed = ranges("routed", {}), all = ranges("all", {"--calibrate_all_experts"});
  ASSERT_EQ(routed.size(), 3 * 12u);
  int larger = 0;
  for (const auto& [name, amax] : routed) {
    if (name.ends_with("down_proj")) {
      EXPECT_GE(all.at(name), amax) << name;
      larger += all.at(name) > amax ? 1 : 0;
    } else {
      EXPECT_EQ(all.at(name), amax) << name;
    }
  }
  EXPECT_GT(larger, 0);
  const auto tokens = [&](const std::string& output) {
    return ReadJsonFile(Path(output) + "/narrow-report.json")
        .at("layers")[1]
        .at("experts")
        .at("tokens");
  };
  EXPECT_EQ(tokens("all"), tokens("routed"));
}

TEST_F(Experts, KilledAmongTheExpertsOfALayer) {
  MakeModel({.layers = 3, .hidden = 256, .width = 256, .experts = 48});
  std::vector<std::string> flags = {"--quant_algo", "gptq"};
  flags.insert(flags.end(), {"--memory_budget", SmallestBudget(flags)});
  const auto start = Clock::now();
  ASSERT_EQ(Run("reference", flags).status, 0);
  const Clock::duration length = Clock::now() - start;
  std::mt19937 random(3);
  std::uniform_real_distribution<double> share(0.1, 0.9);
  int killed = 0, continued = 0;
  for (int i = 0; i < 8 && !HasFailure(); ++i) {
    const auto deadline =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(length * share(random));
    const CommandResult death =
        RunUntil("output", flags, SIGKILL, [&] { return Clock::now() > deadline; });
    killed += death.status == 128 + SIGKILL ? 1 : 0;
    continued += LayersDone("output") > 0 ? 1 : 0;
    Complete("reference", "output", flags);
  }
  EXPECT_GE(killed, 4);
  EXPECT_GE(continued, 1);
}

// 16 experts of 4.7 million weights: 151 MB as they are multiplied.
TEST_F(Experts, ASmallBudgetDoesNotHoldTheExpertsOfALayer) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps what was freed";
#endif
  MakeModel({.hidden = 1024, .width = 1536, .experts = 16});
  constexpr int64_t kLayerBytes = int64_t{16} * 3 * 1024 * 1536 * 2;
  std::vector<std::string> flags = {"--quant_algo", "none"};
  const CommandResult whole = Run("reference", flags);
  ASSERT_EQ(whole.status, 0) << whole.error;
  const std::string budget = SmallestBudget(flags);
  flags.insert(flags.end(), {"--memory_budget", budget});
  const CommandResult small = Run("output", flags);
  ASSERT_EQ(small.status, 0) << small.error;
  EXPECT_LE(small.peak_rss_bytes, Bytes(budget));
  EXPECT_GE(small.peak_rss_bytes, Bytes(budget) / 2);
  EXPECT_LT(small.peak_rss_bytes, whole.peak_rss_bytes - kLayerBytes / 4 * 3);
  ExpectSameResult("reference", "output");
}

}  // namespace
}  // namespace narrow
