// What the user has stays: nothing is written where something is read, and only what narrow made is
// replaced.
#include <sys/mount.h>

#include <cerrno>
#include <cstring>

#include "import/handmade_model.h"
#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class DataSafety : public InterruptedJob {
 protected:
  void ExpectApart(const std::string& output, const std::vector<std::string>& more,
                   const std::string& flag) const {
    SCOPED_TRACE(output + " against " + flag);
    const std::map<std::string, std::string> before = Everything();
    for (const char* overwrite : {"", "--overwrite"}) {
      std::vector<std::string> flags = more;
      if (*overwrite != '\0') flags.push_back(overwrite);
      const CommandResult result = Run(output, flags);
      ExpectRefused(result, ErrorCode::kInvalidArgument, "must lie apart");
      EXPECT_THAT(result.LastErrorLine(), HasSubstr(flag));
      EXPECT_EQ(Everything(), before);
    }
  }
  // Contents of all files, by path; links as what they say.
  std::map<std::string, std::string> Everything() const {
    std::map<std::string, std::string> contents;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
      const std::string path = entry.path().string();
      contents[path] = entry.is_symlink()        ? fs::read_symlink(entry).string()
                       : entry.is_regular_file() ? ReadFile(path)
                                                 : "";
    }
    return contents;
  }
};

TEST_F(DataSafety, OutputApartFromTheModel) {
  fs::create_directory_symlink(Path("model"), Path("link"));
  ExpectApart("model", {}, "--model_dir");
  ExpectApart("model/fp8", {}, "--model_dir");
  ExpectApart("model/deep/er/fp8", {}, "--model_dir");
  ExpectApart("link", {}, "--model_dir");
  ExpectApart("link/fp8", {}, "--model_dir");
  ExpectApart("output", {"--model_dir", Path("output/model")}, "--model_dir");
  ExpectApart("model", {"--model_dir", Path("link")}, "--model_dir");
  ExpectApart(".", {}, "--model_dir");
}

TEST_F(DataSafety, ModelMadeOfLinks) {
  fs::create_directory(Path("links"));
  for (const std::string& name : Names(Path("model"))) {
    fs::create_symlink(Path("model/" + name), Path("links/" + name));
  }
  ExpectApart("model", {"--model_dir", Path("links")}, "--model_dir");
  const CommandResult result = Run("output", {"--model_dir", Path("links"), "--skip_evaluation"});
  EXPECT_EQ(result.status, 0) << result.error;
}

TEST_F(DataSafety, ModelUnderTheNameOfTheUnfinishedOutput) {
  fs::rename(Path("model"), Partial("output"));
  ExpectApart("output", {"--model_dir", Partial("output").string()}, "--model_dir");
  fs::rename(Partial("output"), Work("output"));
  ExpectApart("output", {"--model_dir", Work("output").string()}, "--model_dir");
}

TEST_F(DataSafety, OutputApartFromTheTexts) {
  fs::create_directory(Path("texts"));
  fs::copy(Path("text.txt"), Path("texts/c.txt"));
  fs::copy(Path("text.txt"), Path("texts/e.txt"));
  ExpectApart("text.txt", {}, "--dataset");
  ExpectApart("texts", {"--dataset", Path("texts/c.txt")}, "--dataset");
  ExpectApart("texts", {"--eval_data", Path("texts/e.txt")}, "--eval_data");
  fs::rename(Path("texts/e.txt"), Path("texts/wiki.test.raw"));
  ExpectApart("texts", {"--eval_data", "wikitext2", "--data_dir", Path("texts")}, "--eval_data");
}

TEST_F(DataSafety, WorkDirectoryApart) {
  ExpectApart("output", {"--work_dir", Path("model")}, "--model_dir");
  ExpectApart("output", {"--work_dir", Path("model/work")}, "--model_dir");
  ExpectApart("output", {"--work_dir", Path(".")}, "--work_dir");
  ExpectApart("output", {"--work_dir", Path("output")}, "--work_dir");
  ExpectApart("output", {"--work_dir", Path("output/work")}, "--work_dir");
  ExpectApart("output", {"--work_dir", Partial("output").string()}, "--work_dir");
  ExpectApart("work/output", {"--work_dir", Path("work")}, "--work_dir");
}

TEST_F(DataSafety, FilesOfTheUserInTheWorkDirectory) {
  fs::create_directory(Path("work"));
  WriteFile(Path("work/hidden-gems.txt"), "precious");
  WriteFile(Path("work/.notes.partial-1"), "precious");
  ASSERT_EQ(Run("output", {"--work_dir", Path("work"), "--skip_evaluation"}).status, 0);
  EXPECT_THAT(Names(Path("work")),
              testing::UnorderedElementsAre("hidden-gems.txt", ".notes.partial-1"));
  for (const char* name : {"narrow.log", "hidden-original.0", "state.json"}) {
    SCOPED_TRACE(name);
    WriteFile(Path("work/") + name, "{\"mine\": 1}");
    const CommandResult result =
        Run("second", {"--work_dir", Path("work"), "--skip_evaluation", "--resume", "never"});
    ExpectRefused(result, ErrorCode::kInvalidArgument, name);
    EXPECT_EQ(ReadFile(Path("work/") + name), "{\"mine\": 1}");
    EXPECT_FALSE(fs::exists(Path("second")));
    EXPECT_EQ(Names(Path("work")).size(), 3);
    fs::remove(Path("work/") + name);
  }
  // A directory that was there before stays.
  fs::create_directory(Path("empty"));
  ASSERT_EQ(Run("second", {"--work_dir", Path("empty"), "--skip_evaluation"}).status, 0);
  EXPECT_TRUE(fs::is_empty(Path("empty")));
}

TEST_F(DataSafety, OverwriteTakesOnlyWhatNarrowMade) {
  const std::vector<std::string> flags = {"--overwrite", "--skip_evaluation"};
  const auto expect_refused = [&](const std::string& output, const std::string& found) {
    SCOPED_TRACE(output);
    const std::map<std::string, std::string> before = Everything();
    ExpectRefused(Run(output, flags), ErrorCode::kInvalidArgument, found);
    const CommandResult synthesized =
        RunNarrow({"synthesize", Path(output), "--preset", "tiny", "--overwrite"});
    ExpectRefused(synthesized, ErrorCode::kInvalidArgument, found);
    EXPECT_EQ(Everything(), before);
  };
  fs::create_directories(Path("project/src"));
  WriteFile(Path("project/config.json"), "{}");
  WriteFile(Path("project/notes.txt"), "precious");
  WriteFile(Path("project/src/main.py"), "precious");
  expect_refused("project", "notes.txt");
  fs::copy(Path("model"), Path("older"), fs::copy_options::recursive);  // no marker: not known
  expect_refused("older", "config.json");

  fs::create_directory(Path("output"));
  for (int times = 0; times < 2; ++times) {  // of an empty one, then of its own
    const CommandResult result = Run("output", flags);
    ASSERT_EQ(result.status, 0) << result.error;
  }
  WriteFile(Path("output/adapter.bin"), "precious");
  expect_refused("output", "adapter.bin");
  fs::remove(Path("output/adapter.bin"));
  fs::create_directory(Path("output/runs"));
  expect_refused("output", "runs");
  fs::remove(Path("output/runs"));
  WriteFile(Path("output/README.md"), "my own card");
  expect_refused("output", "README.md");
  EXPECT_EQ(Names(scratch_.path()),
            (std::set<std::string>{"model", "older", "output", "project", "text.txt"}));
}

// What each command makes, the others may replace.
TEST_F(DataSafety, EveryCommandMarksItsOutput) {
  WriteFile(Path("model.gguf"), HandmadeModel().Build());
  const auto import = [&](const std::string& output) {
    return RunNarrow({"import", Path("model.gguf"), Path(output), "--overwrite"});
  };
  const auto synthesize = [&](const std::string& output) {
    return RunNarrow({"synthesize", Path(output), "--preset", "tiny", "--overwrite"});
  };
  const auto command_of = [&](const std::string& output) {
    return ReadJsonFile(Path(output) + "/narrow-output.json").at("command");
  };
  ASSERT_EQ(import("output").status, 0);
  EXPECT_EQ(command_of("output"), "import");
  ASSERT_EQ(synthesize("output").status, 0);
  EXPECT_EQ(command_of("output"), "synthesize");
  ASSERT_EQ(Run("output", {"--overwrite", "--skip_evaluation"}).status, 0);
  const Json marker = ReadJsonFile(Path("output/narrow-output.json"));
  EXPECT_EQ(marker.at("command"), "quantize");
  EXPECT_EQ(marker.at("head_basis"), "fitted");
  std::set<std::string> listed = {"narrow-output.json"};
  for (const auto& [name, unused] : marker.at("files").items()) listed.insert(name);
  EXPECT_EQ(listed, Names(Path("output")));
  ASSERT_EQ(Run("output", {"--overwrite", "--skip_evaluation", "--head_basis", "none"}).status, 0);
  EXPECT_EQ(ReadJsonFile(Path("output/narrow-output.json")).at("head_basis"), "none");
  ASSERT_EQ(import("output").status, 0);
}

TEST_F(DataSafety, ImportAndSynthesizeApartFromWhatTheyRead) {
  const auto expect_apart = [&](const std::vector<std::string>& arguments) {
    SCOPED_TRACE(testing::PrintToString(arguments));
    const std::map<std::string, std::string> before = Everything();
    ExpectRefused(RunNarrow(arguments), ErrorCode::kInvalidArgument, "must lie apart");
    EXPECT_EQ(Everything(), before);
  };
  fs::create_directory(Path("gguf"));
  WriteFile(Path("gguf/model.gguf"), HandmadeModel().Build());
  for (const char* output : {"gguf", "gguf/model.gguf", "gguf/model.gguf/hf"}) {
    expect_apart({"import", Path("gguf/model.gguf"), Path(output), "--overwrite"});
  }
  const std::string config = Path("model/config.json");
  for (const char* output : {"model", "model/new"}) {
    expect_apart({"synthesize", Path(output), "--preset", "tiny", "--tokenizer_dir", Path("model"),
                  "--overwrite"});
  }
  expect_apart({"synthesize", Path("model"), "--config", config, "--overwrite"});
  expect_apart({"synthesize", config, "--config", config, "--overwrite"});
}

TEST_F(DataSafety, ResultFilesApartFromWhatIsRead) {
  fs::create_symlink(Path("text.txt"), Path("link"));
  fs::create_hard_link(Path("text.txt"), Path("twin"));
  const std::map<std::string, std::string> before = Everything();
  for (const char* file : {"text.txt", "link", "twin", "model/config.json", "model/new.json"}) {
    SCOPED_TRACE(file);
    ExpectRefused(RunNarrow({"evaluate", "--model_dir", Path("model"), "--eval_data",
                             Path("text.txt"), "--json", Path(file)}),
                  ErrorCode::kInvalidArgument, "--json");
    ExpectRefused(RunNarrow({"plan", "--model_dir", Path("model"), "--dataset", Path("text.txt"),
                             "--eval_data", Path("text.txt"), "--json", Path(file)}),
                  ErrorCode::kInvalidArgument, "--json");
    EXPECT_EQ(Everything(), before);
  }
}

using Call = FileFault::Call;

// Killed at every step of a replacement, with and without an exchange of the file system's: the old
// output or the new one is there, whole, and the next run leaves nothing else.
TEST_F(DataSafety, KilledWhileItReplaces) {
  const std::vector<std::string> flags = {"--overwrite", "--skip_evaluation"};
  ASSERT_EQ(Run("output", {"--skip_evaluation", "--head_basis", "none"}).status, 0);
  const std::string shard = "model-00001-of-00003.safetensors";
  const std::string old = ReadFile(Path("output/" + shard));
  const std::set<std::string> alone = Names(scratch_.path());
  const auto is_old = [&](const fs::path& path) {
    return fs::exists(path / "narrow-output.json") && ReadFile(path / shard) == old;
  };
  // Between the two steps: the old one comes back with the next run, whatever that wants.
  ASSERT_EQ(Run("output", flags, WithFault({Call::kStepDeath, "/output"})).status, 128 + SIGKILL);
  EXPECT_FALSE(fs::exists(Path("output")));
  EXPECT_TRUE(is_old(Partial("output").string() + "-replaced"));
  ASSERT_EQ(RunNarrow({"synthesize", Path("output"), "--preset", "tiny"}).status, 2);
  EXPECT_TRUE(is_old(Path("output")));
  const CommandResult finished = Run("output", flags);
  ASSERT_EQ(finished.status, 0) << finished.error;
  EXPECT_EQ(Names(scratch_.path()), alone);
  const std::set<std::string> files = Names(Path("output"));
  const std::string fresh = ReadFile(Path("output/" + shard));
  EXPECT_NE(fresh, old);

  for (const FileFault& fault :
       {FileFault{Call::kStepDeath, ".output.partial"}, FileFault{Call::kSwapDeath, ".output"}}) {
    SCOPED_TRACE(static_cast<int>(fault.call));
    ASSERT_EQ(Run("output", flags, WithFault(fault)).status, 128 + SIGKILL);
    EXPECT_EQ(ReadFile(Path("output/" + shard)), fresh);
    const CommandResult next = Run("output", flags);
    ASSERT_EQ(next.status, 0) << next.error;
    EXPECT_EQ(Names(scratch_.path()), alone);
    EXPECT_EQ(Names(Path("output")), files);
  }
  // A file system that cannot exchange.
  ASSERT_EQ(Run("output", flags, WithFault({Call::kExchange, "output"})).status, 0);
  EXPECT_EQ(Names(scratch_.path()), alone);
}

// Killed runs of every command; the next one of the same kind leaves nothing but its result.
TEST_F(DataSafety, LeftoversOfKilledRuns) {
  const auto kill_at = [&](const std::vector<std::string>& arguments, const auto& reached) {
    RunningCommand command(NarrowWords(arguments), NarrowOptions());
    while (!command.Ended() && !reached()) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
    command.Signal(SIGKILL);
    EXPECT_EQ(command.Wait().status, 128 + SIGKILL);
  };
  const std::vector<std::string> synthesize = {"synthesize",   Path("output"), "--preset",
                                               "llama-3.1-8b", "--layers",     "1"};
  kill_at(synthesize, [&] { return fs::exists(Partial("output") / ".narrow-lock"); });
  EXPECT_TRUE(fs::exists(Partial("output")));
  ASSERT_EQ(RunNarrow({"synthesize", Path("output"), "--preset", "tiny"}).status, 0);
  EXPECT_EQ(Names(scratch_.path()), (std::set<std::string>{"model", "output", "text.txt"}));

  fs::create_directory(Path("spill"));
  std::vector<std::string> evaluate = SpillingEvaluation();
  evaluate.insert(evaluate.end(), {"--work_dir", Path("spill")});
  kill_at(evaluate, [&] { return !fs::is_empty(Path("spill")); });
  EXPECT_FALSE(fs::is_empty(Path("spill")));
  const CommandResult result = RunNarrow(evaluate);
  EXPECT_EQ(result.status, 0) << result.error;
  EXPECT_TRUE(fs::is_empty(Path("spill")));
}

// The work directory of a job that was killed and is begun again in another one.
TEST_F(DataSafety, AnotherWorkDirectoryForAnUnfinishedOutput) {
  ASSERT_EQ(Run("reference").status, 0);
  const std::vector<std::string> first = {"--work_dir", Path("first")};
  const std::vector<std::string> second = {"--work_dir", Path("second")};
  RunUntil("output", first, SIGKILL, [&] {
    return fs::exists(Path("first/state.json")) &&
           ReadJsonFile(Path("first/state.json")).at("layers_done") >= 2;
  });
  ExpectRefused(Run("output", second), ErrorCode::kInvalidArgument, "first/state.json");
  EXPECT_FALSE(fs::exists(Path("second")));
  std::vector<std::string> anew = second;
  anew.insert(anew.end(), {"--resume", "never"});
  RunUntil("output", anew, SIGKILL, [&] { return fs::exists(Path("second/state.json")); });
  EXPECT_FALSE(fs::exists(Path("first")));
  const CommandResult result = Run("output", second);
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
  EXPECT_FALSE(fs::exists(Path("second")));
}

// Killed after the output was in place and before its state was gone.
TEST_F(DataSafety, StateOfAFinishedOutput) {
  ASSERT_EQ(Run("reference").status, 0);
  StopAfterLayer("output", 6, SIGKILL);
  fs::copy(Work("output"), Path("kept"), fs::copy_options::recursive);
  ASSERT_EQ(Run("output").status, 0);
  fs::copy(Path("kept"), Work("output"), fs::copy_options::recursive);
  ExpectRefused(Run("output"), ErrorCode::kInvalidArgument, "exists already");
  EXPECT_FALSE(fs::exists(Work("output")));
  fs::copy(Path("kept"), Work("output"), fs::copy_options::recursive);
  const CommandResult result = Run("output", {"--overwrite"});
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameResult("reference", "output");
}

}  // namespace
}  // namespace narrow
