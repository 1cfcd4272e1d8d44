// Runs that die: the same command continues and the result is that of a run that lived.
#include <random>
#include <regex>

#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

class Resume : public InterruptedJob {
 protected:
  // The uninterrupted run; returns its length.
  Clock::duration MakeReference(const std::vector<std::string>& more = {}) const {
    const auto start = Clock::now();
    const CommandResult result = Run("reference", more);
    EXPECT_EQ(result.status, 0) << result.error;
    return Clock::now() - start;
  }

  // The budget that the refusal of a far smaller one recommends: hidden states spill in it.
  std::string SmallestBudget() const {
    const CommandResult refused = Run("refused", {"--memory_budget", "1MiB"});
    EXPECT_EQ(refused.status, static_cast<int>(ErrorCode::kMemoryBudget));
    std::smatch match;
    const std::string line = refused.LastErrorLine();
    EXPECT_TRUE(
        std::regex_search(line, match, std::regex("([0-9.]+) ?GiB that|do is ([0-9.]+) ?GiB")))
        << line;
    return std::string(match[1].matched ? match[1] : match[2]) + "GiB";
  }

  // Deaths at random times, each followed by the same command. Returns how many came in time.
  int Kill(int times, uint32_t seed, const std::vector<std::string>& more) const {
    const Clock::duration length = MakeReference(more);
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> share(0, 1);
    int killed = 0;
    for (int i = 0; i < times && !HasFailure(); ++i) {
      const auto delay = std::chrono::duration_cast<Clock::duration>(length * share(random));
      SCOPED_TRACE(delay / std::chrono::microseconds(1));
      const auto deadline = Clock::now() + delay;
      const CommandResult death =
          RunUntil("output", more, SIGKILL, [&] { return Clock::now() > deadline; });
      if (death.status == 128 + SIGKILL) ++killed;
      Complete("reference", "output", more);
    }
    return killed;
  }
};

TEST_F(Resume, KilledAtRandomTimes) { EXPECT_GE(Kill(30, 1, {}), 10); }

TEST_F(Resume, KilledAtRandomTimesWhileHiddenStatesSpill) {
  EXPECT_GE(Kill(10, 2, {"--memory_budget", SmallestBudget()}), 3);
}

TEST_F(Resume, KilledAfterEveryLayer) {
  MakeReference();
  int64_t killed = 0;
  for (int64_t layer = 1; layer <= 6; ++layer) {
    SCOPED_TRACE(layer);
    killed += StopAfterLayer("output", layer, SIGKILL).status == 128 + SIGKILL ? 1 : 0;
    Complete("reference", "output");
  }
  EXPECT_GE(killed, 4);
}

TEST_F(Resume, KilledThreeTimesInOneJob) {
  MakeReference();
  for (const int64_t layer : {1, 3, 5}) {
    StopAfterLayer("output", layer, SIGKILL);
    ASSERT_FALSE(std::filesystem::exists(Path("output")));
    ASSERT_GE(LayersDone("output"), layer);
  }
  const CommandResult last = Run("output");
  ASSERT_EQ(last.status, 0) << last.error;
  EXPECT_THAT(last.error, HasSubstr("Continuing after layer "));
  ExpectSameResult("reference", "output");
}

// After the last layer: losses, then the small files, then the rename.
TEST_F(Resume, KilledAfterTheLastLayer) {
  MakeReference();
  const auto log_says_losses = [&] {
    const std::filesystem::path log = Work("output") / "narrow.log";
    return std::filesystem::exists(log) && ReadFile(log).find("Losses") != std::string::npos;
  };
  RunUntil("output", {}, SIGKILL, log_says_losses);
  Complete("reference", "output");
  for (const char* file : {"config.json", "narrow-report.json", "README.md"}) {
    SCOPED_TRACE(file);
    RunUntil("output", {}, SIGKILL,
             [&] { return std::filesystem::exists(Partial("output") / file); });
    Complete("reference", "output");
  }
}

TEST_F(Resume, TemporaryFilesOfTheDeadDoNotReachTheResult) {
  MakeReference();
  StopAfterLayer("output", 2, SIGKILL);
  WriteFile(Partial("output") / ".config.json.partial-1", "{");
  WriteFile(Work("output") / ".state.json.partial-1", "{");
  Complete("reference", "output");
}

TEST_F(Resume, SignalsStopTheRunAndSayHowToContinue) {
  MakeReference();
  for (const int number : {SIGINT, SIGTERM}) {
    const CommandResult stopped = StopAfterLayer("output", 2, number);
    ASSERT_EQ(stopped.status, 128 + number) << stopped.error;
    EXPECT_THAT(stopped.LastErrorLine(), HasSubstr("the same command continues"));
    EXPECT_FALSE(std::filesystem::exists(Path("output")));
    EXPECT_THAT(ReadFile(Work("output") / "narrow.log"), HasSubstr("stopped by SIG"));
    Complete("reference", "output");
  }
}

TEST_F(Resume, AnotherJobIsRefused) {
  MakeReference();
  StopAfterLayer("output", 2, SIGKILL);
  const std::vector<std::pair<std::vector<std::string>, std::string>> changes = {
      {{"--seq_len", "100"}, "calibration t"},
      {{"--custom_mode", "quark"}, "--custom_mode was fp8, now it is quark"},
      {{"--min_kv_scale", "0.5"}, "--min_kv_scale was 0, now it is 0.5"},
      {{"--quant_algo", "none"}, "--quant_algo was gptq, now it is none"}};
  for (const auto& [flags, difference] : changes) {
    ExpectRefused(Run("output", flags), ErrorCode::kInvalidArgument, difference);
  }
  WriteText("text.txt", 2);
  ExpectRefused(Run("output"), ErrorCode::kInvalidArgument, "calibration t");
  WriteText("text.txt", 1);
  const std::filesystem::path shard = Path("model") + "/model-00002-of-00003.safetensors";
  const auto written = std::filesystem::last_write_time(shard);
  std::filesystem::last_write_time(shard, written + std::chrono::seconds(1));
  ExpectRefused(Run("output"), ErrorCode::kInvalidArgument, "weight file model-00002-of-00003");
  EXPECT_GE(LayersDone("output"), 2);  // no refusal threw the state away
  std::filesystem::last_write_time(shard, written);
  Complete("reference", "output");
}

TEST_F(Resume, NeverStartsOver) {
  MakeReference();
  StopAfterLayer("output", 2, SIGKILL);
  const CommandResult result = Run("output", {"--resume", "never"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_EQ(result.error.find("Continuing"), std::string::npos);
  ExpectSameResult("reference", "output");
}

TEST_F(Resume, DamagedStateIsRefused) {
  MakeReference();
  StopAfterLayer("output", 2, SIGKILL);
  const std::string state = ReadFile(Work("output") / "state.json");
  for (const std::string& damaged :
       {std::string(), state.substr(0, state.size() / 2), std::string("{}"), std::string("[1]")}) {
    WriteFile(Work("output") / "state.json", damaged);
    const CommandResult result = Run("output");
    ExpectRefused(result, ErrorCode::kCorruptInput, "state.json");
    EXPECT_FALSE(std::filesystem::exists(Path("output")));
  }
  WriteFile(Work("output") / "state.json", state);
  Complete("reference", "output");
}

// A state without the shards it speaks of must not become a checkpoint of zeros.
TEST_F(Resume, MissingShardsAreRefused) {
  MakeReference();
  StopAfterLayer("output", 3, SIGKILL);
  std::filesystem::remove_all(Partial("output"));
  ExpectRefused(Run("output"), ErrorCode::kCorruptInput, "is missing");
  EXPECT_FALSE(std::filesystem::exists(Path("output")));
  const CommandResult result = Run("output", {"--resume", "never"});
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

TEST_F(Resume, TwoRunsInOneWorkDirectory) {
  MakeReference();
  RunningCommand first(NarrowWords(Arguments("output")), NarrowOptions());
  while (!first.Ended() && LayersDone("output") < 1) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  first.Signal(SIGSTOP);
  ExpectRefused(Run("output"), ErrorCode::kInvalidArgument, "in use by another run");
  first.Signal(SIGCONT);
  const CommandResult result = first.Wait();
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

}  // namespace
}  // namespace narrow
