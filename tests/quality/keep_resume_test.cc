// Runs with a measuring pass that die: in that pass, between the two, and in the second one.
#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

using testing::HasSubstr;

class KeepResume : public InterruptedJob {
 protected:
  // Whether a state says that the choice is made, and how many layers are done since.
  bool ChoiceMade(const std::string& output, int64_t layers) const {
    const std::filesystem::path path = Work(output) / "state.json";
    if (!std::filesystem::exists(path)) return false;
    const Json state = ReadJsonFile(path.string());
    return !state.at("kept").is_null() && state.at("layers_done") >= layers;
  }

  void KilledEverywhere(const std::vector<std::string>& flags) const {
    const CommandResult reference = Run("reference", flags);
    ASSERT_EQ(reference.status, 0) << reference.error;
    const Json kept = ReadJsonFile(Path("reference") + "/narrow-report.json").at("kept");
    ASSERT_GE(kept.at("groups").size(), 1u);
    StopAfterLayer("output", 3, SIGKILL, flags);  // while it measures
    Complete("reference", "output", flags);
    int killed = 0;
    for (const int64_t layers : {0, 1, 4}) {
      SCOPED_TRACE(layers);
      const CommandResult death =
          RunUntil("output", flags, SIGKILL, [&] { return ChoiceMade("output", layers); });
      if (death.status == 128 + SIGKILL) {
        ++killed;
        const CommandResult result = Run("output", flags);
        ASSERT_EQ(result.status, 0) << result.error;
        // Nothing is measured again.
        EXPECT_EQ(result.error.find("Measuring errors"), std::string::npos);
      }
      if (std::filesystem::exists(Path("output"))) {
        EXPECT_EQ(ReadJsonFile(Path("output") + "/narrow-report.json").at("kept"), kept);
      }
      Complete("reference", "output", flags);
    }
    EXPECT_GE(killed, 1);
    std::filesystem::remove_all(Path("reference"));
  }
};

TEST_F(KeepResume, KeepLayers) { KilledEverywhere({"--keep_layers", "3"}); }

TEST_F(KeepResume, MaxKl) {
  const CommandResult plain = Run("plain");
  ASSERT_EQ(plain.status, 0) << plain.error;
  const Json report = ReadJsonFile(Path("plain") + "/narrow-report.json");
  const double kl = report.at("evaluation").at("kl").at("deployed");
  std::filesystem::remove_all(Path("plain"));
  KilledEverywhere({"--max_kl", fmt::format("{}", 0.9 * kl)});
}

TEST_F(KeepResume, AnotherChoiceIsAnotherJob) {
  StopAfterLayer("output", 2, SIGKILL, {"--keep_layers", "3"});
  ASSERT_FALSE(std::filesystem::exists(Path("output")));
  ExpectRefused(Run("output", {"--keep_layers", "4"}), ErrorCode::kInvalidArgument,
                "--keep_layers was 3, now it is 4");
  ExpectRefused(Run("output", {"--keep_layers", "3", "--attribution_windows", "2"}),
                ErrorCode::kInvalidArgument, "--attribution_windows was 4, now it is 2");
}

}  // namespace
}  // namespace narrow
