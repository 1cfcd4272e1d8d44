// Quantizing while weights come: --stream, and plans of models whose weights are elsewhere.
#include <signal.h>

#include <random>
#include <thread>

#include "tests/hub/hub_test.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class HubStreamTest : public HubTest {
 protected:
  void SetUp() override {
    if (!HubServer::Available()) GTEST_SKIP() << "the tests' hub needs /usr/bin/python3";
    model_.layers = 6;
    WriteShards("v1", model_);
  }
  // A file for the embedding, one for each layer, and one for the rest.
  void WriteShards(const char* revision, const TinyModel& model) {
    WriteTinyModel(Local(revision), model);
    fs::remove(Local(revision) / "model.safetensors");
    std::map<std::string, std::vector<TinyTensor>> files;
    for (TinyTensor& tensor : TinyTensors(model)) {
      int layer = 0;
      const bool in_layer = std::sscanf(tensor.name.c_str(), "model.layers.%d.", &layer) == 1;
      const int place = in_layer ? layer + 1 : tensor.name == "model.embed_tokens.weight" ? 0 : 99;
      files[fmt::format("model-{:02}.safetensors", place)].push_back(std::move(tensor));
    }
    Json map = Json::object();
    total_ = largest_ = 0;
    for (const auto& [name, tensors] : files) {
      const std::string bytes = SafetensorsFile(tensors);
      total_ += std::ssize(bytes);
      largest_ = std::max(largest_, std::ssize(bytes));
      WriteFile(Local(revision) / name, bytes);
      for (const TinyTensor& tensor : tensors) map[tensor.name] = name;
    }
    WriteFile(Local(revision) / "model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  }
  fs::path Local(const char* revision = "v1") const {
    return server_.root() / "models" / kRepository / revision;
  }
  std::string Path(const char* name) const { return scratch_.path() / name; }
  int64_t limit() const { return 3 * largest_; }
  std::vector<std::string> Arguments(const std::string& model, const char* output,
                                     std::vector<std::string> more = {}) const {
    for (const char* one : {"--num_calib_data", "3", "--seq_len", "32", "--eval_windows", "1",
                            "--window_tokens", "32", "--save_interval", "0", "--threads", "1"}) {
      more.emplace_back(one);
    }
    return QuantizeArguments(model, Path(output), more);
  }
  std::vector<std::string> Streamed(const char* output, std::vector<std::string> more = {}) const {
    more.insert(more.end(), {"--stream", "--stream_disk", std::to_string(limit())});
    return Arguments(kRepository, output, more);
  }
  CommandResult Run(const std::vector<std::string>& arguments) const {
    return RunNarrow(arguments, server_.Options(cache()));
  }
  void MakeExpected(const std::vector<std::string>& more = {}) const {
    const CommandResult local = Run(Arguments(Local(), "local", more));
    ASSERT_EQ(local.status, 0) << local.error;
  }
  void ExpectSameFiles(const char* expected, const char* output) const {
    for (const auto& entry : fs::directory_iterator(Path(expected))) {
      const std::string name = entry.path().filename();
      if (name == "narrow-report.json" || name == "README.md" || name == "report.html" ||
          name == "narrow-output.json") {
        continue;
      }
      EXPECT_TRUE(ReadFile(entry.path()) == ReadFile(fs::path(Path(output)) / name)) << name;
    }
  }
  void ExpectAsLocal(const char* output) const {
    ExpectSameFiles("local", output);
    const Json expected = ReadJsonFile(Path("local") + "/narrow-report.json");
    const Json found = ReadJsonFile(Path(output) + "/narrow-report.json");
    EXPECT_EQ(expected.at("evaluation"), found.at("evaluation"));
  }
  // Of the weight files beside the work directory.
  fs::path Shards(const std::string& output) const {
    return scratch_.path() / ("." + output + ".narrow-work.shards");
  }
  int64_t BytesOf(const fs::path& directory) const {
    int64_t bytes = 0;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error)) {
      std::error_code gone;
      const auto size = entry.file_size(gone);
      if (!gone) bytes += static_cast<int64_t>(size);
    }
    return bytes;
  }

  TinyModel model_;
  int64_t total_ = 0;
  int64_t largest_ = 0;
};

TEST_F(HubStreamTest, GivesTheBytesOfALocalRunWithinItsDisk) {
  ASSERT_LT(limit(), total_);
  server_.Start();
  MakeExpected();
  std::atomic<bool> done = false;
  int64_t most = 0;
  std::thread watcher([&] {
    while (!done) {
      most = std::max(most, BytesOf(Shards("streamed")));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  const CommandResult result = Run(Streamed("streamed"));
  done = true;
  watcher.join();
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectAsLocal("streamed");
  EXPECT_GT(most, 0);
  EXPECT_LE(most, limit() + 1000);  // and the lock file
  EXPECT_THAT(result.error, HasSubstr("of weights while they were needed"));
  // Every file as a whole, once for its header and once for its bytes.
  EXPECT_LE(Requests("cdn /").size(), 20u);
  EXPECT_FALSE(fs::exists(Shards("streamed")));
  // No weights in the cache: their blobs are 64 digits long.
  for (const auto& entry : fs::directory_iterator(blobs())) {
    EXPECT_EQ(entry.path().filename().string().size(), 40u) << entry.path();
  }
}

// Killed after a state was saved, several times, while the branch moves on: the commit stays.
TEST_F(HubStreamTest, IsContinuedAfterDeathsAtTheCommitItBeganWith) {
  TinyModel other = model_;
  other.seed = 2;
  WriteShards("v0", other);
  server_.AddFault({{"match", "cdn"}, {"stall", 0.05}});
  server_.AddFault({{"match", "/revision/main"}, {"after", 1}, {"times", 1}, {"main", "v0"}});
  server_.Start();
  MakeExpected();
  std::mt19937 random(3);
  int deaths = 0;
  for (int i = 0; i < 6 && !fs::exists(Path("streamed")); ++i) {
    RunningCommand command(NarrowWords(Streamed("streamed")),
                           NarrowOptions(server_.Options(cache())));
    const fs::path state = scratch_.path() / ".streamed.narrow-work" / "state.json";
    while (!fs::exists(state) && !command.Ended()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
    deaths += command.Ended() ? 0 : 1;
    command.Signal(SIGKILL);
    command.Wait();
  }
  EXPECT_GT(deaths, 0);
  if (!fs::exists(Path("streamed"))) {
    const CommandResult result = Run(Streamed("streamed"));
    ASSERT_EQ(result.status, 0) << result.error;
    EXPECT_THAT(result.error, HasSubstr("Continuing after layer"));
    EXPECT_FALSE(fs::exists(Shards("streamed")));
  }
  ExpectAsLocal("streamed");
}

// From the weights alone: files one after the other, and matrices of one global scale that lie in
// several of them.
TEST_F(HubStreamTest, StreamsWithoutCalibration) {
  for (const bool in_turn : {false, true}) {
    SCOPED_TRACE(in_turn);
    if (in_turn) {
      fs::remove_all(Local());
      model_.shards = 7;
      WriteTinyModel(Local(), model_);
    }
    server_.Start();
    for (const char* scheme : {"fp8_dynamic", "nvfp4a16"}) {
      SCOPED_TRACE(scheme);
      const std::string output = fmt::format("{}-{}", scheme, in_turn);
      const auto run = [&](const std::string& model, std::vector<std::string> more) {
        more.insert(more.end(), {"quantize", "--model_dir", model, "--skip_calibration",
                                 "--quant_scheme", scheme});
        std::rotate(more.begin(), more.end() - 6, more.end());
        return Run(more);
      };
      const CommandResult local = run(Local(), {"--output_dir", Path("local")});
      ASSERT_EQ(local.status, 0) << local.error;
      const CommandResult result =
          run(kRepository, {"--output_dir", Path(output.c_str()), "--stream", "--stream_disk",
                            std::to_string(limit())});
      ASSERT_EQ(result.status, 0) << result.error;
      EXPECT_THAT(result.error, HasSubstr("of weights while they were needed"));
      ExpectSameFiles("local", output.c_str());
      EXPECT_FALSE(fs::exists(Shards(output)));
      for (const auto& entry : fs::recursive_directory_iterator(cache())) {
        EXPECT_NE(entry.path().extension(), ".safetensors");
      }
      fs::remove_all(Path("local"));
    }
  }
}

TEST_F(HubStreamTest, StreamsWithoutCalibrationAfterDeaths) {
  server_.AddFault({{"match", "cdn"}, {"stall", 0.05}});
  server_.Start();
  const std::vector<std::string> flags = {"--skip_calibration", "--quant_scheme", "fp8_block",
                                          "--save_interval", "0"};
  std::vector<std::string> local = {"quantize", "--model_dir", Local(), "--output_dir",
                                    Path("local")};
  local.insert(local.end(), flags.begin(), flags.end());
  ASSERT_EQ(Run(local).status, 0);
  std::vector<std::string> streamed = {"quantize",      "--model_dir",          kRepository,
                                       "--output_dir",  Path("streamed"),       "--stream",
                                       "--stream_disk", std::to_string(limit())};
  streamed.insert(streamed.end(), flags.begin(), flags.end());
  const fs::path state = scratch_.path() / ".streamed.narrow-work" / "state.json";
  RunningCommand command(NarrowWords(streamed), NarrowOptions(server_.Options(cache())));
  while (!fs::exists(state) && !command.Ended()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  command.Signal(SIGKILL);
  command.Wait();
  ASSERT_FALSE(fs::exists(Path("streamed")));
  ASSERT_TRUE(fs::exists(state));
  const CommandResult result = Run(streamed);
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameFiles("local", "streamed");
}

// The language part's tensors have other names there, and what is beside them is copied.
TEST_F(HubStreamTest, StreamsTheLanguagePartOfAMultimodalModel) {
  std::vector<TinyTensor> tensors = TinyTensors(model_);
  Json map = Json::object();
  std::map<std::string, std::vector<TinyTensor>> files;
  for (TinyTensor& tensor : tensors) {
    int layer = 99;
    std::sscanf(tensor.name.c_str(), "model.layers.%d.", &layer);
    tensor.name = "language_model." + tensor.name;
    files[fmt::format("model-{:02}.safetensors", layer)].push_back(tensor);
  }
  files["model-vision.safetensors"] = {
      {"vision_tower.weight", Dtype::kBF16, {64, 64}, std::string(64 * 64 * 2, '\x3f')}};
  total_ = largest_ = 0;
  fs::remove_all(Local());
  WriteTinyModel(Local(), model_);
  fs::remove(Local() / "model.safetensors");
  for (const auto& [name, held] : files) {
    const std::string bytes = SafetensorsFile(held);
    total_ += std::ssize(bytes);
    largest_ = std::max(largest_, std::ssize(bytes));
    WriteFile(Local() / name, bytes);
    for (const TinyTensor& tensor : held) map[tensor.name] = name;
  }
  WriteFile(Local() / "model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  Json text = TinyConfig(model_);
  text.erase("architectures");
  WriteFile(Local() / "config.json", Json({{"architectures", {"LlavaForConditionalGeneration"}},
                                           {"model_type", "llava"},
                                           {"text_config", text}})
                                         .dump());
  ASSERT_LT(limit(), total_);
  server_.Start();
  MakeExpected();
  const CommandResult result = Run(Streamed("streamed"));
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectAsLocal("streamed");
}

TEST_F(HubStreamTest, KeepingLayersFetchesTwice) {
  server_.Start();
  const std::vector<std::string> more = {"--keep_layers", "2"};
  MakeExpected(more);
  const CommandResult result = Run(Streamed("streamed", more));
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectAsLocal("streamed");
}

TEST_F(HubStreamTest, RefusesWhatCannotWork) {
  server_.Start();
  CommandResult result = Run(Arguments(kRepository, "x", {"--stream", "--stream_disk", "1000"}));
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("two successive parts of org/model lie in files"));
  result = Run(Arguments(Local(), "x", {"--stream"}));
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("--stream is about models of the hub"));
  result = Run(Arguments(kRepository, "x", {"--stream_disk", "1GB"}));
  EXPECT_EQ(result.status, 2);
  result = Run({"quantize", "--model_dir", Local(), "--output_dir", Path("x"), "--skip_calibration",
                "--quant_scheme", "fp8_dynamic", "--stream"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("--stream is about models of the hub"));
  fs::create_directories(Shards("x"));
  WriteFile(Shards("x") / "mine", "x");
  result = Run(Arguments(kRepository, "x", {"--stream"}));
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("is in the way"));
  EXPECT_EQ(ReadFile(Shards("x") / "mine"), "x");
  EXPECT_FALSE(fs::exists(Path("x")));
}

TEST_F(HubStreamTest, ADamagedFileEndsTheRunAndLeavesNothing) {
  server_.AddFault({{"match", "cdn"}, {"after", 12}, {"flip", 20'000}});
  server_.Start();
  const CommandResult result = Run(Streamed("streamed"));
  EXPECT_EQ(result.status, 4) << result.error;
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("has not the digest"));
  EXPECT_FALSE(fs::exists(Path("streamed")));
  EXPECT_FALSE(fs::exists(Shards("streamed")));
}

// Headers by ranges: what a plan says is that of the local model, and what the download takes.
TEST_F(HubStreamTest, PlansFromHeaders) {
  server_.Start();
  const auto plan = [&](const std::string& model, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"plan", "--model_dir", model, "--json",
                                          Path("plan.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.status, 0) << result.error;
    EXPECT_EQ(result.output.find("no weight files"), std::string::npos);
    return std::pair(ReadJsonFile(Path("plan.json")), result.output);
  };
  const std::vector<std::string> keep = {"--keep_layers", "1"};
  const auto [local, local_text] = plan(Local(), keep);
  EXPECT_FALSE(local.contains("download"));
  const auto [named, text] = plan(
      kRepository, {"--keep_layers", "1", "--stream", "--stream_disk", std::to_string(limit())});
  for (const char* member : {"weights", "layers", "output_bytes", "work_directory_bytes"}) {
    EXPECT_EQ(local.at(member), named.at(member)) << member;
  }
  EXPECT_EQ(named.at("download").at("files"), 8);
  EXPECT_EQ(named.at("download").at("model_bytes"), total_);
  EXPECT_EQ(named.at("download").at("bytes"), 2 * total_);
  EXPECT_EQ(named.at("download").at("disk_bytes"), limit());
  EXPECT_GT(named.at("download").at("bytes_per_second"), 0);
  EXPECT_THAT(text, HasSubstr("Download: "));
  EXPECT_THAT(text, HasSubstr("fetched twice"));
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(blobs(), error)) {
    EXPECT_EQ(entry.path().filename().string().size(), 40u) << entry.path();  // no weights
  }
}

TEST_F(HubStreamTest, PlansJobsWithoutCalibrationFromHeaders) {
  server_.Start();
  const auto plan = [&](const std::string& model) {
    const CommandResult result =
        Run({"plan", "--model_dir", model, "--skip_calibration", "--quant_scheme", "fp8_dynamic",
             "--json", Path("plan.json")});
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(Path("plan.json"));
  };
  const Json local = plan(Local());
  Json named = plan(kRepository);
  EXPECT_EQ(named.at("download").at("bytes"), total_);
  named.erase("download");
  EXPECT_EQ(named, local);
  for (const auto& entry : fs::directory_iterator(blobs())) {
    EXPECT_EQ(entry.path().filename().string().size(), 40u) << entry.path();  // no weights
  }
}

}  // namespace
}  // namespace narrow
