// Disks that fill up and sources that change while a job runs: a clear message, nothing that looks
// finished, and the result once the cause is gone.
#include <sys/mount.h>

#include <cerrno>
#include <cstring>

#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

using testing::HasSubstr;

// A file system of its own that can be full.
class SmallDisk {
 public:
  SmallDisk(std::filesystem::path path, const std::string& size) : path_(std::move(path)) {
    std::filesystem::create_directory(path_);
    mounted_ = ::mount("none", path_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    error_ = errno;
  }
  ~SmallDisk() {
    if (mounted_) ::umount(path_.c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  std::string error() const { return std::strerror(error_); }
  void Resize(const std::string& size) const {
    ASSERT_EQ(::mount("none", path_.c_str(), "tmpfs", MS_REMOUNT, ("size=" + size).c_str()), 0)
        << std::strerror(errno);
  }

 private:
  std::filesystem::path path_;
  bool mounted_ = false;
  int error_ = 0;
};

class Faults : public InterruptedJob {
 protected:
  // The fault comes with the first state that is saved; the run is held while it is made.
  CommandResult RunWithFault(const std::function<void()>& fault) const {
    RunningCommand command(NarrowWords(Arguments("output", {})), NarrowOptions());
    while (!command.Ended() && LayersDone("output") < 1) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
    command.Signal(SIGSTOP);
    fault();
    command.Signal(SIGCONT);
    return command.Wait();
  }
  void ExpectNothingFinished() const { EXPECT_FALSE(std::filesystem::exists(Path("output"))); }
  std::filesystem::path Shard() const {
    return Path("model") + "/model-00002-of-00003.safetensors";
  }
};

TEST_F(Faults, DiskOfTheOutputIsFull) {
  ASSERT_EQ(Run("reference").status, 0);
  const SmallDisk disk(Path("disk"), "500k");
  if (!disk.mounted()) GTEST_SKIP() << "no file system can be mounted here: " << disk.error();
  const CommandResult full = Run("disk/output", {"--work_dir", Path("work")});
  ExpectRefused(full, ErrorCode::kIo, "free");
  EXPECT_FALSE(std::filesystem::exists(Path("disk/output")));
  disk.Resize("20m");
  const CommandResult result = Run("disk/output", {"--work_dir", Path("work")});
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "disk/output");
}

// The disk fills up between two states: what was saved stays, and is gone on with.
TEST_F(Faults, DiskOfTheStateFillsUp) {
  ASSERT_EQ(Run("reference").status, 0);
  const SmallDisk disk(Path("disk"), "64m");
  if (!disk.mounted()) GTEST_SKIP() << "no file system can be mounted here: " << disk.error();
  const std::vector<std::string> flags = {"--work_dir", Path("disk/work")};
  const std::string filler = Path("disk/filler");
  RunningCommand command(NarrowWords(Arguments("output", flags)), NarrowOptions());
  while (!command.Ended() && !std::filesystem::exists(Path("disk/work/state.json"))) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  command.Signal(SIGSTOP);
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(Path("disk"), error);
  {
    std::ofstream file(filler, std::ios::binary);
    file << std::string(space.available + (1 << 20), 'x');
  }
  command.Signal(SIGCONT);
  const CommandResult full = command.Wait();
  ExpectRefused(full, ErrorCode::kIo, "disk full");
  EXPECT_THAT(full.LastErrorLine(), HasSubstr("the same command continues"));
  ExpectNothingFinished();
  std::filesystem::remove(filler);
  const CommandResult result = Run("output", flags);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("Continuing after layer"));
  ExpectSameResult("reference", "output");
  EXPECT_FALSE(std::filesystem::exists(Path("disk/work")));
}

TEST_F(Faults, DiskOfTheStateIsFullFromTheStart) {
  ASSERT_EQ(Run("reference").status, 0);
  const SmallDisk disk(Path("disk"), "1m");
  if (!disk.mounted()) GTEST_SKIP() << "no file system can be mounted here: " << disk.error();
  const std::vector<std::string> flags = {"--work_dir", Path("disk/work")};
  ExpectRefused(Run("output", flags), ErrorCode::kIo, "free");
  ExpectNothingFinished();
  disk.Resize("64m");
  const CommandResult result = Run("output", flags);
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

TEST_F(Faults, SourceChangesMidway) {
  ASSERT_EQ(Run("reference").status, 0);
  const auto written = std::filesystem::last_write_time(Shard());
  const CommandResult changed = RunWithFault(
      [&] { std::filesystem::last_write_time(Shard(), written + std::chrono::seconds(1)); });
  ExpectRefused(changed, ErrorCode::kCorruptInput, "was changed while it was being read");
  EXPECT_THAT(changed.LastErrorLine(), HasSubstr("model-00002-of-00003"));
  ExpectNothingFinished();
  const CommandResult result = Run("output");
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

TEST_F(Faults, SourceShortensMidway) {
  ASSERT_EQ(Run("reference").status, 0);
  const std::string whole = ReadFile(Shard());
  const CommandResult shorter = RunWithFault(
      [&] { std::filesystem::resize_file(Shard(), std::filesystem::file_size(Shard()) / 2); });
  ExpectRefused(shorter, ErrorCode::kCorruptInput, "model-00002-of-00003");
  ExpectNothingFinished();
  EXPECT_EQ(Run("output").status, static_cast<int>(ErrorCode::kCorruptInput));
  ExpectNothingFinished();
  WriteFile(Shard(), whole);
  const CommandResult result = Run("output");
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

TEST_F(Faults, ShardThatCannotBeRead) {
  ASSERT_EQ(Run("reference").status, 0);
  const std::filesystem::path aside = Path("aside");
  std::filesystem::rename(Shard(), aside);
  std::filesystem::create_directory(Shard());
  ExpectRefused(Run("output"), ErrorCode::kIo, "model-00002-of-00003");
  ExpectNothingFinished();
  std::filesystem::remove(Shard());
  std::filesystem::rename(aside, Shard());
  const CommandResult result = Run("output");
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

using Call = FileFault::Call;

// The disk fails at one call; the same command does once it is well again.
struct InjectedFault {
  FileFault fault;
  const char* message = "";
  bool saved = false;  // a state is there by then, to go on with
};

class InjectedFaults : public Faults {
 protected:
  void ExpectRecovery(const std::vector<InjectedFault>& faults,
                      const std::vector<std::string>& flags) const {
    const CommandResult reference = Run("reference", flags);
    ASSERT_EQ(reference.status, 0) << reference.error;
    if (!flags.empty()) ExpectSpilled(reference);
    for (const InjectedFault& injected : faults) {
      SCOPED_TRACE(fmt::format("{} after {}", injected.fault.file, injected.fault.after));
      const std::string state = (Work("output") / "state.json").string();
      FileFault fault = injected.fault;
      // Earlier layers wrote the same files.
      if (injected.saved && std::string(fault.file).starts_with("hidden-")) fault.once = state;
      const CommandResult failed = Run("output", flags, WithFault(fault));
      ExpectRefused(failed, ErrorCode::kIo, injected.message);
      EXPECT_THAT(failed.LastErrorLine(), HasSubstr(injected.fault.file));
      ExpectNothingFinished();
      EXPECT_EQ(LayersDone("output") > 0, injected.saved);
      if (injected.saved) {
        EXPECT_THAT(failed.LastErrorLine(), HasSubstr("the same command continues"));
      } else {
        EXPECT_FALSE(std::filesystem::exists(Partial("output")));
        EXPECT_FALSE(std::filesystem::exists(Work("output")));
      }
      Complete("reference", "output", flags);
    }
  }
};

// The embedding writes the files .1, layer 1 those of .0; then there is a state.
TEST_F(InjectedFaults, DiskIsFullWhileHiddenStatesSpill) {
  ExpectRecovery({{{Call::kWrite, "hidden-calibration.1", 0}, "disk full"},
                  {{Call::kWrite, "hidden-deployed.1", 1}, "disk full"},
                  {{Call::kWrite, "hidden-original.0", 0}, "disk full"},
                  {{Call::kSync, "hidden-pseudo.0", 0}, "No space left"},
                  {{Call::kWrite, "hidden-original.1", 0}, "disk full", true},
                  {{Call::kWrite, "hidden-deployed.0", 1}, "disk full", true},
                  {{Call::kRead, "hidden-deployed.1", 0}, "reading at offset", true}},
                 Spilling());
}

TEST_F(InjectedFaults, DiskIsFullWhileTheStateIsWritten) {
  ExpectRecovery({{{Call::kWrite, "hidden-calibration.1", 0}, "disk full"},
                  {{Call::kWrite, "hidden-deployed.0", 0}, "disk full", true},
                  {{Call::kWrite, ".state.json.partial", 0}, "disk full"},
                  {{Call::kWrite, ".state.json.partial", 3}, "disk full", true},
                  {{Call::kSync, ".state.json.partial", 5}, "No space left", true}},
                 {});
}

TEST_F(InjectedFaults, DiskIsFullWhileTheOutputIsWritten) {
  ExpectRecovery({{{Call::kWrite, "model-00001-of", 1}, "disk full"},
                  {{Call::kWrite, "model-00003-of", 1}, "disk full", true},
                  {{Call::kSync, "model-00003-of", 0}, "No space left", true},
                  {{Call::kWrite, "model.safetensors.index.json", 0}, "disk full", true},
                  {{Call::kWrite, "config.json", 0}, "disk full", true},
                  {{Call::kWrite, "narrow-report.json", 0}, "disk full", true}},
                 {});
}

TEST_F(InjectedFaults, ShardThatCannotBeReadMidway) {
  ExpectRecovery({{{Call::kRead, "model-00001-of-00003", 0}, "Input/output error"},
                  {{Call::kRead, "model-00003-of-00003", 12}, "reading at offset", true}},
                 {});
}

TEST_F(InjectedFaults, EvaluationLeavesNothingOfItsHiddenStates) {
  const std::vector<std::string> arguments = {"evaluate",
                                              "--model_dir",
                                              Path("model"),
                                              "--eval_data",
                                              Path("text.txt"),
                                              "--window_tokens",
                                              "128",
                                              "--threads",
                                              "2",
                                              "--work_dir",
                                              Path("spill"),
                                              "--json",
                                              Path("evaluation.json"),
                                              "--memory_budget"};
  const auto evaluate = [&](const std::string& budget, const CommandOptions& options) {
    std::vector<std::string> words = arguments;
    words.push_back(budget);
    return RunNarrow(words, options);
  };
  const CommandResult refused = evaluate("1MiB", {});
  std::smatch match;
  const std::string line = refused.LastErrorLine();
  ASSERT_TRUE(std::regex_search(line, match, std::regex("would do is ([0-9.]+GiB)"))) << line;
  ExpectRefused(evaluate(match[1], WithFault({Call::kWrite, "hidden-original", 20})),
                ErrorCode::kIo, "disk full");
  EXPECT_TRUE(std::filesystem::is_empty(Path("spill")));
  EXPECT_FALSE(std::filesystem::exists(Path("evaluation.json")));
  const CommandResult result = evaluate(match[1], {});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_TRUE(std::filesystem::exists(Path("evaluation.json")));
}

}  // namespace
}  // namespace narrow
