// Small jobs on the real SmolLM2: killed and continued, and their memory against the plan.
#include "tests/cli/interrupted_job.h"
#include "tests/shared_data.h"

namespace narrow {
namespace {

class SmolLm2Job : public InterruptedJob {
 protected:
  void SetUp() override {
    if (SmolLm2Path().empty()) GTEST_SKIP() << "the SmolLM2 checkpoint is not there";
  }

  std::vector<std::string> Arguments(const std::string& output,
                                     const std::vector<std::string>& more) const override {
    std::vector<std::string> arguments = {
        "quantize",   "--model_dir",      SmolLm2Path(), "--output_dir",
        Path(output), "--dataset",        "builtin",     "--eval_data",
        "builtin",    "--num_calib_data", "8",           "--seq_len",
        "128",        "--eval_windows",   "2",           "--window_tokens",
        "256",        "--threads",        "2",           "--max_shard_size",
        "20MB",       "--save_interval",  "0",           "--kv_cache_dtype",
        "fp8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  void KillAndContinue(const std::vector<int64_t>& layers,
                       const std::vector<std::string>& flags) const {
    const CommandResult reference = Run("reference", flags);
    ASSERT_EQ(reference.status, 0) << reference.error;
    for (const int64_t layer : layers) {
      SCOPED_TRACE(layer);
      const CommandResult death = StopAfterLayer("output", layer, SIGKILL, flags);
      ASSERT_EQ(death.signal, SIGKILL) << death.error;
      ASSERT_GE(LayersDone("output"), layer);
      Complete("reference", "output", flags);
    }
  }

  // What narrow plan says of the same job, without its own flags.
  Json Plan(const std::vector<std::string>& flags) const {
    std::vector<std::string> arguments = Arguments("output", flags);
    arguments[0] = "plan";
    arguments.insert(arguments.end(), {"--json", Path("plan.json")});
    const CommandResult result = RunNarrow(arguments);
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(Path("plan.json"));
  }

  // The plan is kept, and promises no more than is needed but for what it cannot know: 80 MiB for
  // allocator, compiled kernels and stacks, parts that are at their largest at different moments,
  // and memory of the tokenizer that the job uses again.
  void ExpectPlanHolds(const std::vector<std::string>& flags) const {
    const int64_t planned = Plan(flags).at("memory").at("peak_bytes");
    const CommandResult result = Run("output", flags);
    ASSERT_EQ(result.status, 0) << result.error;
    EXPECT_LE(result.peak_rss_bytes, planned);
    EXPECT_GE(result.peak_rss_bytes, planned - kPlanMargin);
    std::filesystem::remove_all(Path("output"));
  }
  static constexpr int64_t kPlanMargin = int64_t{128} << 20;
};

// 21 MB of hidden states.
const std::vector<std::string> kManyWindows = {"--eval_windows", "16"};

TEST_F(SmolLm2Job, KilledAndContinued) { KillAndContinue({1, 20}, {}); }

TEST_F(SmolLm2Job, KilledAndContinuedWhileHiddenStatesSpill) {
  KillAndContinue({12}, Spilling(kManyWindows));
}

TEST_F(SmolLm2Job, MemoryIsWhatThePlanSays) {
  ExpectPlanHolds({"--memory_budget", "4GiB"});
  ExpectPlanHolds(Spilling(kManyWindows));
  // Hidden states of 64 x 512 and 24 x 1024 tokens in memory: 189 MB.
  ExpectPlanHolds({"--memory_budget", "4GiB", "--num_calib_data", "64", "--seq_len", "512",
                   "--eval_windows", "8", "--window_tokens", "1024"});
}

}  // namespace
}  // namespace narrow
