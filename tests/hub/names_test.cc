// The commands with a name of the hub in place of a directory.
#include <signal.h>

#include <thread>

#include "io/safetensors.h"
#include "jobs/model_location.h"
#include "tests/build_paths.h"
#include "tests/hub/hub_test.h"
#include "tests/shared_data.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

class HubNamesTest : public HubTest {
 protected:
  void SetUp() override {
    if (!HubServer::Available()) GTEST_SKIP() << "the tests' hub needs /usr/bin/python3";
    TinyModel model;
    model.shards = 3;
    WriteTinyModel(Local(), model);
  }
  fs::path Local(const char* revision = "v1") const {
    return server_.root() / "models" / kRepository / revision;
  }
  CommandResult Run(const std::vector<std::string>& arguments, const char* offline = "") const {
    CommandOptions options = server_.Options(cache());
    options.environment["HF_HUB_OFFLINE"] = offline;
    return RunNarrow(arguments, options);
  }
  std::string Path(const char* name) const { return scratch_.path() / name; }

  // Every file but those with times in them.
  void ExpectSameOutput(const std::string& a, const std::string& b) const {
    int64_t compared = 0;
    for (const auto& entry : fs::directory_iterator(a)) {
      const std::string name = entry.path().filename();
      if (name == "narrow-report.json" || name == "README.md" || name == "report.html" ||
          name == "narrow-output.json") {
        continue;
      }
      EXPECT_TRUE(ReadFile(entry.path()) == ReadFile(fs::path(b) / name)) << name;
      ++compared;
    }
    EXPECT_GE(compared, 3);
    EXPECT_EQ(std::distance(fs::directory_iterator(a), {}),
              std::distance(fs::directory_iterator(b), {}));
  }
  void ExpectContractFromHub(const std::vector<std::string>& more) const {
    const CommandResult local = Run(QuantizeArguments(Local(), Path("local"), more));
    ASSERT_EQ(local.status, 0) << local.error;
    const CommandResult named = Run(QuantizeArguments(kRepository, Path("named"), more));
    ASSERT_EQ(named.status, 0) << named.error;
    ExpectSameOutput(Path("local"), Path("named"));
    const Json report = ReadJsonFile(Path("named/narrow-report.json"));
    EXPECT_THAT(report.dump(), HasSubstr("org/model"));
    EXPECT_THAT(ReadFile(Path("named/README.md")), HasSubstr("base_model: \"org/model\""));
  }
  // Nowhere in what was printed or written.
  void ExpectNoToken(const std::vector<CommandResult>& results) const {
    for (const CommandResult& result : results) {
      EXPECT_EQ((result.output + result.error).find(kTestToken), std::string::npos);
      EXPECT_EQ((result.output + result.error).find("signature"), std::string::npos);
    }
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
      if (!entry.is_regular_file()) continue;
      EXPECT_EQ(ReadFile(entry.path()).find(kTestToken), std::string::npos) << entry.path();
    }
  }
};

TEST_F(HubNamesTest, ContractGivesTheBytesOfALocalRun) {
  server_.Start();
  ExpectContractFromHub({"--num_calib_data", "4", "--skip_evaluation"});
}

// A real model, served as eight shards.
TEST_F(HubNamesTest, ContractGivesTheBytesOfALocalRunOfARealModel) {
  const std::string model = SmolLm2Path();
  if (model.empty()) GTEST_SKIP() << "needs SmolLM2-135M-Instruct (make demo)";
  fs::remove_all(Local());
  fs::create_directories(Local());
  for (const auto& entry : fs::directory_iterator(model)) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".safetensors") && !name.starts_with("narrow-")) {
      fs::copy_file(entry.path(), Local() / name);
    }
  }
  const InputFile weights(model + "/model.safetensors");
  std::vector<TinyTensor> tensors;
  for (const SafetensorsEntry& entry : ReadSafetensorsHeader(weights).entries) {
    TinyTensor& tensor = tensors.emplace_back(TinyTensor{entry.name, entry.dtype, entry.shape, ""});
    tensor.bytes.resize(static_cast<std::size_t>(entry.bytes()));
    weights.ReadAt(entry.begin, std::as_writable_bytes(std::span(tensor.bytes)));
  }
  WriteWeights(Local(), tensors, 8);
  ASSERT_TRUE(fs::exists(Local() / "model.safetensors.index.json"));
  server_.Start();
  ExpectContractFromHub(
      {"--num_calib_data", "2", "--seq_len", "64", "--skip_evaluation", "--dataset", "builtin"});
}

TEST_F(HubNamesTest, EveryCommandTakesAName) {
  server_.Start();
  const std::string texts = scratch_.Put("texts.jsonl", "{\"text\": \"abc\"}\n");
  std::vector<CommandResult> results;
  const auto expect_same = [&](std::vector<std::string> arguments) {
    std::vector<std::string> local = arguments;
    std::ranges::replace(local, std::string(kRepository), Local().string());
    const CommandResult from_name = results.emplace_back(Run(arguments));
    EXPECT_EQ(from_name.status, 0) << from_name.error;
    std::string expected = Run(local).output;
    // Where a command names the directory.
    for (std::size_t at; (at = expected.find(Local().string())) != std::string::npos;) {
      expected.replace(at, Local().string().size(), "");
    }
    std::string found = from_name.output;
    const std::string snapshot = cache() / "models--org--model/snapshots" /
                                 ReadFile(cache() / "models--org--model/refs/main");
    for (std::size_t at; (at = found.find(snapshot)) != std::string::npos;) {
      found.replace(at, snapshot.size(), "");
    }
    return std::pair(found, expected);
  };
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"tokenize", "--model_dir", kRepository, "--input_file", texts},
        {"evaluate", "--model_dir", kRepository, "--eval_windows", "1", "--window_tokens", "32"},
        {"inspect", kRepository}}) {
    const auto [found, expected] = expect_same(arguments);
    EXPECT_EQ(found, expected) << arguments.front();
  }
  results.push_back(Run({"plan", "--model_dir", kRepository}));
  EXPECT_EQ(results.back().status, 0) << results.back().error;
  results.push_back(Run({"download", kRepository}));
  EXPECT_EQ(results.back().status, 0) << results.back().error;
  const fs::path printed = results.back().output.substr(0, results.back().output.size() - 1);
  EXPECT_TRUE(fs::exists(printed / "config.json")) << printed;
  // From here on no server is needed.
  server_.Stop();
  results.push_back(Run({"inspect", "--headers_only", kRepository}, "1"));
  EXPECT_EQ(results.back().status, 0) << results.back().error;
  ExpectNoToken(results);
}

TEST_F(HubNamesTest, TokenizeAndPlanFetchNoWeights) {
  server_.Start();
  const std::string texts = scratch_.Put("texts.jsonl", "{\"text\": \"abc\"}\n");
  EXPECT_EQ(Run({"tokenize", "--model_dir", kRepository, "--input_file", texts}).status, 0);
  EXPECT_THAT(Requests("cdn /"), testing::IsEmpty());
}

TEST_F(HubNamesTest, OfflineSaysWhatToDo) {
  server_.Start();
  const CommandResult result = Run({"download", kRepository}, "1");
  EXPECT_EQ(result.status, 3);
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("HF_HUB_OFFLINE"));
  EXPECT_THAT(server_.Log(), testing::IsEmpty());
}

TEST_F(HubNamesTest, WithoutTheHubTheCacheDoes) {
  server_.Start();
  ASSERT_EQ(Run({"download", kRepository}).status, 0);
  server_.Stop();
  const CommandResult result = Run({"inspect", "--headers_only", kRepository});
  EXPECT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("org/model is used as the cache has it"));
}

// What can be refused is refused before the weights come.
TEST_F(HubNamesTest, RefusesBeforeWeightsAreFetched) {
  server_.Start();
  fs::create_directories(Path("output"));
  scratch_.Put("output/mine", "x");
  EXPECT_EQ(Run(QuantizeArguments(kRepository, Path("output"))).status, 2);
  WriteFile(Local() / "config.json", R"({"model_type": "other", "architectures": ["Other"]})");
  server_.Start();
  fs::remove_all(cache());
  EXPECT_EQ(Run(QuantizeArguments(kRepository, Path("new"))).status, 5);
  EXPECT_THAT(Requests("cdn /"), testing::IsEmpty());
}

TEST_F(HubNamesTest, ALocalPathWins) {
  const fs::path before = fs::current_path();
  fs::create_directories(scratch_.path() / "org" / "model");
  fs::current_path(scratch_.path());
  EXPECT_FALSE(IsHubModel("org/model"));
  EXPECT_EQ(LocateModel("org/model", ModelPart::kAll, progress_), "org/model");
  EXPECT_TRUE(IsHubModel("org/other"));
  for (const char* path : {"./org/other", "org/other/", "/org/other", "a/b/c", "org", "org/../b",
                           "-org/x", "org/x.git", "org/a--b", "org/x@../y", "org/x@"}) {
    EXPECT_FALSE(IsHubModel(path)) << path;
  }
  fs::current_path(before);
}

// Python's huggingface_hub and this program, each reading what the other one fetched.
TEST_F(HubNamesTest, ExchangesCachesWithPython) {
  const char* packages = std::getenv("NARROW_HUB_PACKAGES");
  CommandOptions options;
  if (packages != nullptr) options.environment["PYTHONPATH"] = packages;
  const std::string python = "/usr/bin/python3";
  if (RunCommand({python, "-c", "import huggingface_hub"}, options).status != 0) {
    GTEST_SKIP() << "needs Python's huggingface_hub (tools/prepare_hub_packages.sh)";
  }
  const CommandResult result = RunCommand(
      {python, NARROW_SOURCE_DIR "/tools/exchange_hub_cache.py", NarrowWords({}).front()}, options);
  EXPECT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("Python reads what narrow fetched: 7 files"));
  EXPECT_THAT(result.output, HasSubstr("narrow reads what Python fetched: 7 files"));
  EXPECT_THAT(result.output, HasSubstr("both caches have the same"));
}

TEST_F(HubNamesTest, ADownloadThatDiedIsContinued) {
  fs::remove_all(Local());
  PutFile("config.json", "{}");
  PutFile("model.safetensors", Bytes(30'000'000, 3));
  server_.AddFault({{"match", "cdn"}, {"after", 2}, {"times", 3}, {"stall", 30}});
  server_.Start();
  for (const int signal : {SIGKILL, SIGTERM}) {
    RunningCommand command(NarrowWords({"download", kRepository}),
                           NarrowOptions(server_.Options(cache())));
    const auto partial = [&] {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(blobs(), error)) {
        if (entry.path().extension() == ".incomplete") return entry.file_size();
      }
      return std::uintmax_t{0};
    };
    for (int i = 0; i < 2000 && (partial() < 8'388'608 || !command.Handles(SIGTERM)); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    command.Signal(signal);
    const CommandResult result = command.Wait();
    EXPECT_EQ(result.status, 128 + signal) << result.error;
    EXPECT_EQ(result.signal, signal == SIGKILL ? SIGKILL : 0);
  }
  server_.ClearLog();
  const CommandResult result = Run({"download", kRepository});
  ASSERT_EQ(result.status, 0) << result.error;
  for (const Json& entry : Requests("cdn /")) {
    EXPECT_THAT(entry.at("range").get<std::string>(), testing::Not(StartsWith("bytes=0-")));
  }
  const fs::path snapshot = result.output.substr(0, result.output.size() - 1);
  EXPECT_TRUE(ReadFile(snapshot / "model.safetensors") == Bytes(30'000'000, 3));
}

}  // namespace
}  // namespace narrow
