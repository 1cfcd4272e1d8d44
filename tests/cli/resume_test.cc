// Runs that die: the same command continues and the result is that of a run that lived.
#include <random>

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
  const std::vector<std::string> spilling = Spilling();
  EXPECT_GE(Kill(10, 2, spilling), 3);
  ExpectSpilled(Run("output", spilling));
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

// Before there is anything to go on with: the output begun, then hidden states in the work
// directory.
TEST_F(Resume, KilledBeforeTheFirstState) {
  const std::vector<std::string> spilling = Spilling();
  MakeReference(spilling);
  for (const std::filesystem::path& made :
       {Work("output") / ".narrow-lock", Partial("output"), Work("output") / "narrow.log",
        Work("output") / "hidden-calibration.1", Work("output") / "hidden-deployed.1"}) {
    SCOPED_TRACE(made);
    RunUntil("output", spilling, SIGKILL, [&] { return std::filesystem::exists(made); });
    Complete("reference", "output", spilling);
  }
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
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) {
    const CommandResult stopped = StopAfterLayer("output", 2, number);
    ASSERT_EQ(stopped.status, 128 + number) << stopped.error;
    EXPECT_THAT(stopped.LastErrorLine(), HasSubstr("the same command continues"));
    EXPECT_FALSE(std::filesystem::exists(Path("output")));
    EXPECT_THAT(ReadFile(Work("output") / "narrow.log"), HasSubstr("stopped by SIG"));
    Complete("reference", "output");
  }
}

// The second one does not wait for anything: what it leaves must still do.
TEST_F(Resume, ASecondSignalEndsTheRunAtOnce) {
  // Layers and batches so large that the first one waits for a moment.
  std::filesystem::remove_all(Path("model"));
  WriteTinyModel(Path("model"),
                 {.layers = 4, .hidden = 512, .intermediate = 2048, .heads = 8, .head_size = 64});
  MakeReference();
  int ended_by_signal = 0;
  for (const int number : {SIGINT, SIGTERM}) {
    for (const int64_t layers : {0, 2}) {
      SCOPED_TRACE(fmt::format("signal {} after layer {}", number, layers));
      RunningCommand command(NarrowWords(Arguments("output", {})), NarrowOptions());
      while (!command.Ended() &&
             (!std::filesystem::exists(Partial("output")) || LayersDone("output") < layers)) {
        std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
      command.Signal(number);
      while (!command.Ended() && command.Handles(number)) std::this_thread::yield();
      command.Signal(number);
      const CommandResult stopped = command.Wait();
      EXPECT_EQ(stopped.status, 128 + number) << stopped.error;
      ended_by_signal += stopped.signal == number ? 1 : 0;
      EXPECT_FALSE(std::filesystem::exists(Path("output")));
      Complete("reference", "output");
    }
  }
  EXPECT_GE(ended_by_signal, 1);
}

TEST_F(Resume, AnotherSignalIsHandledLikeTheFirst) {
  MakeReference();
  RunningCommand command(NarrowWords(Arguments("output", {})), NarrowOptions());
  while (!command.Ended() && LayersDone("output") < 2) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  command.Signal(SIGSTOP);
  command.Signal(SIGINT);
  command.Signal(SIGTERM);
  command.Signal(SIGCONT);
  const CommandResult stopped = command.Wait();
  EXPECT_EQ(stopped.signal, 0);
  EXPECT_THAT(stopped.status, testing::AnyOf(128 + SIGINT, 128 + SIGTERM)) << stopped.error;
  EXPECT_THAT(stopped.LastErrorLine(), HasSubstr("the same command continues"));
  Complete("reference", "output");
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
    EXPECT_THAT(result.LastErrorLine(), HasSubstr("start over with --resume never"));
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
  RunningCommand first(NarrowWords(Arguments("output", {})), NarrowOptions());
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
