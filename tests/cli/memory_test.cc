// Memory as the kernel counts it, against the budget, and against what must not matter.
#include <regex>

#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

class Memory : public InterruptedJob {
 protected:
  void SetUp() override {
    std::string text;
    for (int line = 0; line < 200; ++line) {
      for (int word = 0; word < 120; ++word)
        text += fmt::format("{:04x} ", (line * 977 + word * 7919) % 65536);
      text += '\n';
    }
    WriteFile(Path("text.txt"), text);
  }

  void MakeModel(int64_t layers) const {
    Json config = TinyConfig({.layers = layers,
                              .hidden = 512,
                              .intermediate = 1536,
                              .heads = 8,
                              .key_value_heads = 2,
                              .head_size = 64,
                              .vocabulary = 8000});
    WriteFile(Path("config.json"), config.dump());
    std::filesystem::remove_all(Path("model"));
    const CommandResult made =
        RunNarrow({"synthesize", Path("model"), "--config", Path("config.json")});
    ASSERT_EQ(made.status, 0) << made.error;
  }

  CommandResult RunJob(int64_t samples, int64_t windows, const std::string& budget) const {
    std::filesystem::remove_all(Path("output"));
    return RunNarrow({"quantize",
                      "--model_dir",
                      Path("model"),
                      "--output_dir",
                      Path("output"),
                      "--dataset",
                      Path("text.txt"),
                      "--eval_data",
                      Path("text.txt"),
                      "--seq_len",
                      "512",
                      "--num_calib_data",
                      fmt::format("{}", samples),
                      "--eval_windows",
                      fmt::format("{}", windows),
                      "--window_tokens",
                      "512",
                      "--threads",
                      "2",
                      "--memory_budget",
                      budget});
  }

  // The budget that a refusal recommends, in GiB.
  std::string SmallestBudget(int64_t samples, int64_t windows) const {
    const CommandResult refused = RunJob(samples, windows, "1MiB");
    EXPECT_EQ(refused.status, static_cast<int>(ErrorCode::kMemoryBudget)) << refused.error;
    std::smatch match;
    const std::string line = refused.LastErrorLine();
    EXPECT_TRUE(std::regex_search(line, match, std::regex("would do is ([0-9.]+) ?GiB"))) << line;
    return match[1];
  }

  static int64_t Bytes(const std::string& gibibytes) {
    return static_cast<int64_t>(std::stod(gibibytes) * 0x1p30);
  }

  int64_t Peak(int64_t samples, int64_t windows, const std::string& gibibytes) const {
    const CommandResult result = RunJob(samples, windows, gibibytes + "GiB");
    EXPECT_EQ(result.status, 0) << result.error;
    EXPECT_LE(result.peak_rss_bytes, Bytes(gibibytes));
    return result.peak_rss_bytes;
  }
};

TEST_F(Memory, DoesNotGrowWithLayersSamplesOrWindows) {
  MakeModel(2);
  const std::string budget = SmallestBudget(48, 16);
  const int64_t peak = Peak(48, 16, budget);
  const int64_t allowed = peak + peak / 20 + (int64_t{8} << 20);
  EXPECT_LE(Peak(96, 16, budget), allowed);
  EXPECT_LE(Peak(48, 32, budget), allowed);
  MakeModel(8);
  EXPECT_LE(Peak(48, 16, budget), allowed);
}

}  // namespace
}  // namespace narrow
