// No result is lost without a word: what cannot be written is exit status 6.
#include <sys/stat.h>

#include "import/handmade_model.h"
#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using Output = CommandOptions::Output;
namespace fs = std::filesystem;

class LostResults : public InterruptedJob {
 protected:
  std::vector<std::string> Evaluate(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"evaluate",
                                          "--model_dir",
                                          Path("model"),
                                          "--eval_data",
                                          Path("text.txt"),
                                          "--eval_windows",
                                          "2",
                                          "--window_tokens",
                                          "128",
                                          "--threads",
                                          "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(LostResults, StandardOutputFails) {
  WriteFile(Path("model.gguf"), HandmadeModel().Build());
  WriteFile(Path("lines.jsonl"), "{\"text\": \"a\"}\n");
  const std::vector<std::vector<std::string>> commands = {
      {"--help"},
      {"--version"},
      {"quantize", "--help"},
      Arguments("output", {"--skip_evaluation", "--overwrite"}),
      Arguments("output", {"--skip_quantization"}),
      {"plan", "--model_dir", Path("model"), "--dataset", Path("text.txt"), "--eval_windows", "1"},
      Evaluate(),
      {"inspect", Path("model")},
      {"inspect", Path("model"), "--json"},
      {"tokenize", "--model_dir", Path("model"), "--input_file", Path("lines.jsonl")},
      {"import", Path("model.gguf"), Path("imported"), "--overwrite"},
      {"synthesize", Path("made"), "--preset", "tiny", "--overwrite"}};
  for (const std::vector<std::string>& arguments : commands) {
    for (const Output output : {Output::kFull, Output::kClosed, Output::kClosedPipe}) {
      SCOPED_TRACE(fmt::format("{} {}", fmt::join(arguments, " "), static_cast<int>(output)));
      const CommandResult result = RunNarrow(arguments, {.standard_output = output});
      ExpectRefused(result, ErrorCode::kIo, "standard output");
    }
    EXPECT_EQ(RunNarrow(arguments).status, 0) << arguments.front();
  }
  for (const char* made : {"output", "imported", "made"}) {
    EXPECT_TRUE(fs::exists(Path(made) + "/narrow-output.json")) << made;
  }
}

// Files that are opened must not get the number of a closed standard output.
TEST_F(LostResults, ClosedStandardOutputReachesNoFile) {
  ASSERT_EQ(Run("reference", {"--skip_evaluation"}).status, 0);
  const CommandResult result =
      Run("output", {"--skip_evaluation"}, {.standard_output = Output::kClosed});
  ExpectRefused(result, ErrorCode::kIo, "output is complete all the same");
  ExpectSameResult("reference", "output");
}

// The lines before the one that is wrong are there.
TEST_F(LostResults, WhatWasPrintedBeforeAnErrorIsShown) {
  WriteFile(Path("lines.jsonl"), "{\"text\": \"a\"}\n{\"text\": 1}\n");
  const CommandResult result =
      RunNarrow({"tokenize", "--model_dir", Path("model"), "--input_file", Path("lines.jsonl")});
  EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kCorruptInput));
  EXPECT_EQ(result.output, "[256, 97]\n");
}

TEST_F(LostResults, ResultFiles) {
  WriteFile(Path("real.json"), "old");
  fs::permissions(Path("real.json"), fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("real.json", Path("link.json"));
  for (const char* file : {"link.json", "new/er/result.json"}) {
    const CommandResult result = RunNarrow(Evaluate({"--json", Path(file)}));
    ASSERT_EQ(result.status, 0) << result.error;
    EXPECT_GT(ReadJsonFile(Path(file)).at("perplexity"), 1.0);
  }
  EXPECT_TRUE(fs::is_symlink(Path("link.json")));
  EXPECT_EQ(fs::status(Path("real.json")).permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
  // Into the standard output, which is a file here, after what is printed.
  const CommandResult both = RunNarrow(Evaluate({"--json", "/dev/stdout"}));
  EXPECT_EQ(both.status, 0) << both.error;
  ASSERT_TRUE(both.output.starts_with("perplexity ")) << both.output;
  const std::string json = both.output.substr(both.output.find('\n') + 1);
  EXPECT_GT(ParseJson(json, "standard output").at("perplexity"), 1.0);
  // The perplexity is printed whatever becomes of the file.
  const CommandResult full = RunNarrow(Evaluate({"--json", "/dev/full"}));
  ExpectRefused(full, ErrorCode::kIo, "/dev/full: disk full");
  EXPECT_THAT(full.output, HasSubstr("perplexity "));
  WriteFile(Path("lines"), "");
  fs::create_directory(Path("directory"));
  ExpectRefused(RunNarrow(Evaluate({"--json", Path("directory")})), ErrorCode::kInvalidArgument,
                "--json");
  ExpectRefused(RunNarrow(Evaluate({"--json", Path("lines/x")})), ErrorCode::kIo, "--json");
}

TEST_F(LostResults, TemporaryDirectoryMissing) {
  const CommandOptions missing = {.environment = {{"TMPDIR", "/nonexistent/tmp"}}};
  const CommandResult result = RunNarrow(Evaluate(), missing);
  EXPECT_EQ(result.status, 0) << result.error;
  const CommandResult refused = RunNarrow(SpillingEvaluation(), missing);
  ExpectRefused(refused, ErrorCode::kNotFound, "$TMPDIR");
  EXPECT_THAT(refused.LastErrorLine(), HasSubstr("--work_dir"));
}

// A limit on the size of files is like a full disk: nothing that looks finished, and the same
// command goes on when it is lifted.
TEST_F(LostResults, LimitOnTheSizeOfFiles) {
  ASSERT_EQ(Run("reference").status, 0);
  const CommandResult limited = Run("output", {}, {.file_size_limit = 200 << 10});
  ExpectRefused(limited, ErrorCode::kIo, "ulimit -f");
  EXPECT_EQ(limited.signal, 0);
  EXPECT_FALSE(fs::exists(Path("output")));
  const CommandResult result = Run("output");
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
  // Where not even the lock files can be written.
  ExpectRefused(Run("nothing", {}, {.file_size_limit = 4096}), ErrorCode::kIo, "ulimit -f");
  const CommandResult made =
      RunNarrow({"synthesize", Path("made"), "--preset", "tiny"}, {.file_size_limit = 100 << 10});
  ExpectRefused(made, ErrorCode::kIo, "ulimit -f");
  EXPECT_EQ(Names(scratch_.path()),
            (std::set<std::string>{"model", "output", "reference", "text.txt"}));
}

// Every file of a saved state, damaged in every way a loss of power leaves them.
TEST_F(LostResults, DamagedStateSaysHowToStartOver) {
  const std::vector<std::string> spilling = Spilling();
  ASSERT_EQ(Run("reference", spilling).status, 0);
  const auto stop = [&] {
    StopAfterLayer("output", 3, SIGKILL, spilling);
    return LayersDone("output") >= 3 && !fs::exists(Path("output"));
  };
  ASSERT_TRUE(stop());
  const Json state = ReadJsonFile(Work("output") / "state.json");
  const int generation = state.at("hidden_generations").at("calibration");
  const auto with = [&](const char* member, const Json& value) {
    Json changed = state;
    changed[member] = value;
    return changed.dump();
  };
  Json no_member = state;
  no_member.erase("layers");
  const fs::path hidden = Work("output") / fmt::format("hidden-calibration.{}", generation);
  const fs::path shard = Partial("output") / "model-00001-of-00003.safetensors";
  const std::vector<std::pair<fs::path, std::string>> damages = {
      {Work("output") / "state.json", ""},
      {Work("output") / "state.json", "{\"a"},
      {Work("output") / "state.json", std::string(1000, '\0')},
      {Work("output") / "state.json", "[]"},
      {Work("output") / "state.json", no_member.dump()},
      {Work("output") / "state.json", with("layers_done", 5)},
      {Work("output") / "state.json", with("layers_done", -1)},
      {Work("output") / "state.json", with("hidden_generations", {{"calibration", 7}})},
      {Work("output") / "state.json", with("hidden_generations", Json::object())},
      {Work("output") / "state.json", with("job", "another")},
      {Work("output") / "state.json", with("job", 1)},
      {hidden, ""},
      {hidden, "x"},
      {shard, ""},
      {shard, std::string(1000, '\0')}};
  for (const auto& [path, contents] : damages) {
    SCOPED_TRACE(path.string() + " " + contents.substr(0, 20));
    const std::string good = ReadFile(path);
    WriteFile(path, contents);
    ExpectRefused(Run("output", spilling), ErrorCode::kCorruptInput, "--resume never");
    WriteFile(path, good);
  }
  for (const fs::path& path : {Work("output") / "state.json", hidden}) {
    SCOPED_TRACE(path);
    const std::string good = ReadFile(path);
    fs::remove(path);
    fs::create_directory(path);
    ExpectRefused(Run("output", spilling), ErrorCode::kCorruptInput, "--resume never");
    fs::remove(path);
    WriteFile(path, good);
  }
  fs::remove(hidden);
  ExpectRefused(Run("output", spilling), ErrorCode::kCorruptInput, "--resume never");
  fs::remove(Work("output") / "narrow.log");
  fs::create_directory(Work("output") / "narrow.log");
  ExpectRefused(Run("output", spilling), ErrorCode::kIo, "--resume never");
  std::vector<std::string> anew = spilling;
  anew.insert(anew.end(), {"--resume", "never"});
  const CommandResult result = Run("output", anew);
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

// A state in a directory that no run has locked, as it may lie there after a loss of power.
TEST_F(LostResults, DamagedStateAlone) {
  fs::create_directory(Work("output"));
  WriteFile(Work("output") / "state.json", "{\"a");
  ExpectRefused(Run("output"), ErrorCode::kCorruptInput, "start over with --resume never");
  EXPECT_EQ(ReadFile(Work("output") / "state.json"), "{\"a");
  EXPECT_FALSE(fs::exists(Partial("output")));
  const CommandResult result = Run("output", {"--resume", "never"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_EQ(Names(scratch_.path()), (std::set<std::string>{"model", "output", "text.txt"}));
}

// The terminal goes away.
TEST_F(LostResults, HangUpStopsWhatIsNotContinuedToo) {
  RunningCommand command(
      NarrowWords({"synthesize", Path("made"), "--preset", "llama-3.1-8b", "--layers", "1"}),
      NarrowOptions());
  while (!command.Ended() && !fs::exists(Partial("made") / ".narrow-lock")) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  command.Signal(SIGHUP);
  const CommandResult stopped = command.Wait();
  EXPECT_EQ(stopped.status, 129);
  EXPECT_EQ(stopped.signal, 0);
  EXPECT_THAT(stopped.LastErrorLine(), HasSubstr("SIGHUP"));
  EXPECT_EQ(Names(scratch_.path()), (std::set<std::string>{"model", "text.txt"}));
}

}  // namespace
}  // namespace narrow
