// A small quantization that is stopped on its way, and the result it must have all the same.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {

class InterruptedJob : public testing::Test {
 protected:
  void SetUp() override {
    WriteTinyModel(Path("model"), {.layers = 6, .hidden = 128, .intermediate = 256, .shards = 3});
    WriteText("text.txt", 1);
  }

  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }
  std::filesystem::path Partial(const std::string& output) const {
    return scratch_.path() / ("." + output + ".partial");
  }
  std::filesystem::path Work(const std::string& output) const {
    return scratch_.path() / ("." + output + ".narrow-work");
  }

  void WriteText(const std::string& name, uint64_t seed) const {
    std::string text;
    for (int word = 0; word < 6000; ++word) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      for (uint64_t rest = seed >> 40; rest > 0; rest /= 20) {
        text += static_cast<char>('a' + rest % 20);
      }
      text += word % 50 == 49 ? '\n' : ' ';
    }
    WriteFile(Path(name), text);
  }

  virtual std::vector<std::string> Arguments(const std::string& output,
                                             const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"quantize",
                                          "--model_dir",
                                          Path("model"),
                                          "--output_dir",
                                          Path(output),
                                          "--dataset",
                                          Path("text.txt"),
                                          "--eval_data",
                                          Path("text.txt"),
                                          "--seq_len",
                                          "128",
                                          "--num_calib_data",
                                          "48",
                                          "--eval_windows",
                                          "4",
                                          "--window_tokens",
                                          "512",
                                          "--threads",
                                          "2",
                                          "--max_shard_size",
                                          "300KB",
                                          "--save_interval",
                                          "0",
                                          "--no_weight_matrix_merge",
                                          "--kv_cache_dtype",
                                          "fp8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  CommandResult Run(const std::string& output, const std::vector<std::string>& more = {},
                    const CommandOptions& options = {}) const {
    return RunNarrow(Arguments(output, more), options);
  }

  // Flags with which hidden states spill: `flags` and the budget that the refusal of a far smaller
  // one recommends. REQUIRES: hidden states take more than that budget is rounded up by, 11 MB.
  std::vector<std::string> Spilling(std::vector<std::string> flags) const {
    flags.insert(flags.end(), {"--memory_budget", "1MiB"});
    const CommandResult refused = Run("refused", flags);
    EXPECT_EQ(refused.status, static_cast<int>(ErrorCode::kMemoryBudget));
    std::smatch match;
    const std::string line = refused.LastErrorLine();
    EXPECT_TRUE(std::regex_search(line, match, std::regex("would do is ([0-9.]+GiB)"))) << line;
    flags.back() = match[1];
    return flags;
  }
  // 24 windows of 512 tokens: 19 MB of hidden states.
  std::vector<std::string> Spilling() const { return Spilling({"--eval_windows", "24"}); }
  // An evaluation whose hidden states spill.
  std::vector<std::string> SpillingEvaluation() const {
    std::vector<std::string> arguments = {"evaluate",
                                          "--model_dir",
                                          Path("model"),
                                          "--eval_data",
                                          Path("text.txt"),
                                          "--window_tokens",
                                          "128",
                                          "--threads",
                                          "2",
                                          "--memory_budget",
                                          "1MiB"};
    std::smatch match;
    const std::string line = RunNarrow(arguments).LastErrorLine();
    EXPECT_TRUE(std::regex_search(line, match, std::regex("would do is ([0-9.]+GiB)"))) << line;
    arguments.back() = match[1];
    return arguments;
  }
  static void ExpectSpilled(const CommandResult& result) {
    EXPECT_THAT(result.error, testing::HasSubstr("hidden states in the work directory"));
  }

  // Starts the job and calls `stop` while it runs, until that returns true or the job ends.
  CommandResult RunUntil(const std::string& output, const std::vector<std::string>& more,
                         int number, const std::function<bool()>& stop) const {
    RunningCommand command(NarrowWords(Arguments(output, more)), NarrowOptions());
    while (!command.Ended() && !stop()) std::this_thread::sleep_for(std::chrono::microseconds(300));
    command.Signal(number);
    return command.Wait();
  }
  // Layers that a state says are done; 0 without one.
  int64_t LayersDone(const std::string& output) const {
    const std::filesystem::path state = Work(output) / "state.json";
    if (!std::filesystem::exists(state)) return 0;
    return ReadJsonFile(state.string()).at("layers_done");
  }
  CommandResult StopAfterLayer(const std::string& output, int64_t layers, int number,
                               const std::vector<std::string>& more = {}) const {
    return RunUntil(output, more, number, [&] { return LayersDone(output) >= layers; });
  }

  // Nothing but the result, and all of it the same but times and the command.
  void ExpectSameResult(const std::string& expected, const std::string& output) const {
    EXPECT_FALSE(std::filesystem::exists(Partial(output)));
    EXPECT_FALSE(std::filesystem::exists(Work(output)));
    ASSERT_EQ(Names(Path(expected)), Names(Path(output)));
    for (const std::string& name : Names(Path(expected))) {
      // Times, and hashes of files with times.
      if (name == "narrow-report.json" || name == "README.md" || name == "report.html" ||
          name == "narrow-output.json") {
        continue;
      }
      EXPECT_TRUE(ReadFile(Path(expected) + "/" + name) == ReadFile(Path(output) + "/" + name))
          << name;
    }
    const Json first = ReadJsonFile(Path(expected) + "/narrow-report.json");
    const Json second = ReadJsonFile(Path(output) + "/narrow-report.json");
    for (const char* member : {"calibration", "evaluation", "weights", "inputs", "kv_cache"}) {
      EXPECT_EQ(first.at(member), second.at(member)) << member;
    }
  }
  // The same command again, after a death that may have come too late; then the result goes.
  void Complete(const std::string& expected, const std::string& output,
                const std::vector<std::string>& more = {}) const {
    if (!std::filesystem::exists(Path(output))) {
      const CommandResult result = Run(output, more);
      ASSERT_EQ(result.status, 0) << result.error;
    } else {
      std::filesystem::remove_all(Work(output));  // it died after the result was in place
    }
    ExpectSameResult(expected, output);
    std::filesystem::remove_all(Path(output));
  }
  static void ExpectRefused(const CommandResult& result, ErrorCode code,
                            const std::string& message) {
    EXPECT_EQ(result.status, static_cast<int>(code)) << result.error;
    EXPECT_THAT(result.LastErrorLine(), testing::HasSubstr(message));
  }

  ScratchDirectory scratch_;
};

}  // namespace narrow
