// The real Gemma 3 270M: losses against transformers', and jobs on its 262,144 tokens against
// their plans.
#include "tests/golden/real_model_job.h"

namespace narrow {
namespace {

// The first windows of 2048 tokens of WikiText-2, in float32.
class Gemma3Losses : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(Gemma3Losses, AreTransformers) {
  if (Gemma3Path().empty()) GTEST_SKIP() << "the Gemma 3 checkpoint is not there";
  const std::string golden = SharedPath("golden/gemma3-270m/reference.json");
  if (golden.empty()) GTEST_SKIP() << "the shared golden data is not there";
  const auto [window_bos, member] = GetParam();
  const Json expected = ReadJsonFile(golden)[member];
  const ScratchDirectory scratch;
  const std::string json = (scratch.path() / "losses.json").string();
  const CommandResult result =
      RunNarrow({"evaluate", "--model_dir", Gemma3Path(), "--eval_data",
                 SharedPath("data/text/wiki.test.raw"), "--eval_windows",
                 std::to_string(expected.size()), "--eval_window_order", "first", "--data_type",
                 "float32", "--window_bos", window_bos, "--json", json},
                {.timeout_seconds = 2600});
  ASSERT_EQ(result.status, 0) << result.error;
  const Json losses = ReadJsonFile(json)["window_nll"];
  ASSERT_EQ(losses.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(losses[i].get<double>(), expected[i].get<double>(), 1e-4) << "window " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Windows, Gemma3Losses,
                         testing::Values(std::pair{"never", "window_nll_plain"},
                                         std::pair{"always", "window_nll_bos"}),
                         [](const auto& row) { return std::string(row.param.first); });

class Gemma3Job : public RealModelJob {
 protected:
  std::string Model() const override { return Gemma3Path(); }

  // What is resident at the start differs by some MiB between plan and job.
  int64_t SmallestBudget(const std::vector<std::string>& flags) const {
    const int64_t planned = Plan(flags).at("memory").at("smallest_budget_bytes");
    return planned + (int64_t{16} << 20);
  }
};

// The embedding is the head, too: packed whole, and in slices where the budget is short. What
// reading a tokenizer of so many tokens leaves free is used again.
TEST_F(Gemma3Job, MemoryIsWhatThePlanSays) {
  constexpr int64_t kMargin = int64_t{256} << 20;
  ExpectPlanHolds({"--memory_budget", "4GiB"}, kMargin);
  ExpectPlanHolds({"--memory_budget", std::to_string(SmallestBudget({}))}, kMargin);
}

}  // namespace
}  // namespace narrow
