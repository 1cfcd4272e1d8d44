// narrow-mpi as a user runs it. Skipped where there is no MPI; hosts are network namespaces, and
// those tests are skipped where they cannot be made.
#include <gtest/gtest.h>

#include "io/scratch_directory.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

constexpr const char* kMpirun = "/usr/bin/mpirun";

class NarrowMpi : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(NARROW_MPI_PROGRAM) || !std::filesystem::exists(kMpirun)) {
      GTEST_SKIP() << "narrow-mpi or mpirun is not there; make narrow-mpi";
    }
    WriteTinyModel(Path("model"), {.layers = 3, .rope = TinyModel::Rope::kLlama3});
  }

  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  std::vector<std::string> Quantize(const std::string& output) const {
    return {"quantize",   "--model_dir",      Path("model"), "--output_dir",
            Path(output), "--kv_cache_dtype", "fp8",         "--threads",
            "1",          "--num_calib_data", "11",          "--seq_len",
            "150",        "--dataset",        "builtin",     "--eval_data",
            "builtin",    "--eval_windows",   "5",           "--window_tokens",
            "128"};
  }

  static CommandOptions Options() {
    CommandOptions options = NarrowOptions();
    options.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    options.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
    return options;
  }

  static CommandResult RunRanks(int count, const std::vector<std::string>& arguments) {
    std::vector<std::string> words = {kMpirun, "--oversubscribe",     "--bind-to",       "none",
                                      "-n",    std::to_string(count), NARROW_MPI_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return RunCommand(words, Options());
  }

  void ExpectSameWeights(const std::string& a, const std::string& b) const {
    for (const char* name : {"model.safetensors", "config.json"}) {
      EXPECT_TRUE(ReadFile(Path(a) + "/" + name) == ReadFile(Path(b) + "/" + name)) << name;
    }
    const Json first = ReadJsonFile(Path(a) + "/narrow-report.json");
    const Json second = ReadJsonFile(Path(b) + "/narrow-report.json");
    for (const char* member : {"calibration", "evaluation", "weights", "inputs", "kv_cache"}) {
      EXPECT_EQ(first[member], second[member]) << member;
    }
  }

  ScratchDirectory scratch_;
};

TEST_F(NarrowMpi, WritesTheSameBytesWithAnyNumberOfRanks) {
  const CommandResult alone = RunNarrow(Quantize("alone"));
  ASSERT_EQ(alone.status, 0) << alone.error;
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string output = "ranks-" + std::to_string(ranks);
    const CommandResult result = RunRanks(ranks, Quantize(output));
    ASSERT_EQ(result.status, 0) << result.error;
    ExpectSameWeights("alone", output);
    const Json report = ReadJsonFile(Path(output) + "/narrow-report.json");
    EXPECT_EQ(report["compute"].value("ranks", Json::array()).size(),
              ranks == 1 ? 0 : static_cast<std::size_t>(ranks));
    // Said once.
    EXPECT_EQ(result.output.find("| Model "), result.output.rfind("| Model "));
  }
}

TEST_F(NarrowMpi, WhatIsNotDividedIsRefused) {
  const CommandResult inspect = RunRanks(2, {"inspect", Path("model")});
  EXPECT_EQ(inspect.status, 2);
  EXPECT_NE(inspect.error.find("only quantize and evaluate are; run narrow inspect"),
            std::string::npos)
      << inspect.error;
  std::vector<std::string> arguments = Quantize("output");
  arguments.push_back("--skip_calibration");
  const CommandResult data_free = RunRanks(2, arguments);
  EXPECT_NE(data_free.status, 0);
  EXPECT_FALSE(std::filesystem::exists(Path("output")));
}

TEST_F(NarrowMpi, AWrongFlagIsToldOnceWithItsStatus) {
  const CommandResult result = RunRanks(3, {"quantize", "--no_such_flag"});
  EXPECT_EQ(result.status, 2);
  const std::string first = "narrow: rank 0 on ";
  EXPECT_NE(result.error.find(first), std::string::npos) << result.error;
  EXPECT_EQ(result.error.find("narrow: rank 1 on "), std::string::npos) << result.error;
}

// Three hosts on a switch.
class NarrowMpiHosts : public NarrowMpi {
 protected:
  void SetUp() override {
    NarrowMpi::SetUp();
    if (IsSkipped()) return;
    hosts_ = SharedPath("tools/hosts.sh");
    if (hosts_.empty()) GTEST_SKIP() << "../shared/tools/hosts.sh is not there";
    if (RunCommand({"/bin/bash", hosts_, "2", "true"}).status != 0) {
      GTEST_SKIP() << "network namespaces cannot be made here (CAP_SYS_ADMIN, iproute2)";
    }
  }

  // A shell script in the first host; $RUN begins the command line of a job of three ranks.
  CommandResult OnHosts(const std::string& script, int64_t timeout_seconds) const {
    scratch_.Put("hostfile", "h1 slots=1\nh2 slots=1\nh3 slots=1\n");
    const std::string agent = (std::filesystem::path(hosts_).parent_path() / "nsrsh").string();
    const std::string run = fmt::format(
        "RUN=\"{} --hostfile {} --mca plm_rsh_agent {} --mca btl tcp,self --mca pml ob1 "
        "--mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 --bind-to none -x PATH -n 3 "
        "{}\"\n",
        kMpirun, Path("hostfile"), agent, NARROW_MPI_PROGRAM);
    CommandOptions options = Options();
    options.timeout_seconds = timeout_seconds;
    return RunCommand({"/bin/bash", hosts_, "3", "bash",
                       scratch_.Put("script", run + "SHELL_OF=" + agent + "\n" + script).string()},
                      options);
  }

  // A job that is not over before something happens to it.
  std::string LongJob() const {
    const std::string text(400'000, 'a');
    scratch_.Put("long.txt", text);
    WriteTinyModel(Path("long"), {.layers = 16});
    return fmt::format(
        "evaluate --model_dir {} --eval_data {} --eval_windows 0 --window_tokens 128 --threads 1",
        Path("long"), Path("long.txt"));
  }

  // Waits until all ranks have begun.
  static std::string AllRun() {
    return "until [ $(pgrep -c -f '^" NARROW_MPI_PROGRAM "') = 3 ]; do sleep 0.1; done; sleep 2\n";
  }

  std::string hosts_;
};

TEST_F(NarrowMpiHosts, WriteTheSameBytesOverASlowNetwork) {
  const CommandResult alone = RunNarrow(Quantize("alone"));
  ASSERT_EQ(alone.status, 0) << alone.error;
  std::string arguments;
  for (const std::string& word : Quantize("hosts")) arguments += word + " ";
  const CommandResult result = OnHosts(
      "tc qdisc add dev eth0 root tbf rate 200mbit burst 128kb latency 50ms || exit 77\n$RUN " +
          arguments,
      60);
  if (result.status == 77) GTEST_SKIP() << "tc cannot slow a link here: " << result.error;
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectSameWeights("alone", "hosts");
}

TEST_F(NarrowMpiHosts, AKilledRankEndsTheOthers) {
  const CommandResult result = OnHosts(
      "(" + AllRun() + "kill -9 $(pgrep -n -f '^" NARROW_MPI_PROGRAM "')) &\n$RUN " + LongJob() +
          "\nstatus=$?\nsleep 1\necho left: $(pgrep -c -f '^" NARROW_MPI_PROGRAM "')\nexit $status",
      14);
  EXPECT_FALSE(result.timed_out);
  EXPECT_NE(result.status, 0);
  EXPECT_NE(result.output.find("left: 0"), std::string::npos) << result.output << result.error;
}

// mpirun itself goes on waiting for its own daemon on that host.
TEST_F(NarrowMpiHosts, ALinkThatIsCutEndsTheJobNamingTheHost) {
  const CommandResult result =
      OnHosts("($RUN " + LongJob() + ") &\n" + AllRun() + "$SHELL_OF h3 ip link set eth0 down\n" +
                  "for i in $(seq 55); do sleep 1; [ $(pgrep -c -f '^" NARROW_MPI_PROGRAM
                  "') = 0 ] && echo all ended && exit 0; done",
              70);
  EXPECT_NE(result.output.find("all ended"), std::string::npos) << result.output << result.error;
  EXPECT_NE(result.error.find("rank 2 on h3 has not been heard of"), std::string::npos)
      << result.error;
}

}  // namespace
}  // namespace narrow
