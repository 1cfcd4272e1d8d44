// Output that cannot be written, and command lines without what they need.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class BadOutput : public testing::Test {
 protected:
  void SetUp() override { WriteTinyModel(model(), {}); }

  std::string model() const { return Path("model"); }
  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  CommandResult Quantize(const std::string& output, const CommandOptions& options = {}) const {
    return RunNarrow(QuantizeArguments(model(), output,
                                       {"--num_calib_data", "4", "--seq_len", "64",
                                        "--eval_windows", "1", "--window_tokens", "64"}),
                     options);
  }
  static void ExpectRefused(const CommandResult& result, ErrorCode code,
                            const std::string& message) {
    EXPECT_EQ(result.status, static_cast<int>(code)) << result.error;
    EXPECT_THAT(result.LastErrorLine(), StartsWith("narrow: "));
    EXPECT_THAT(result.LastErrorLine(), HasSubstr(message));
  }

  ScratchDirectory scratch_;
};

// As os.makedirs does; and only what is used stays.
TEST_F(BadOutput, MissingParentsAreMade) {
  const CommandResult result = Quantize(Path("new/er/output"));
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_TRUE(std::filesystem::exists(Path("new/er/output/config.json")));
  EXPECT_THAT(Names(Path("new/er")), testing::UnorderedElementsAre("output"));
  const CommandResult failed = Quantize(Path("an/other/output"), {.file_size_limit = 20000});
  ExpectRefused(failed, ErrorCode::kIo, "ulimit -f");
  EXPECT_THAT(Names(scratch_.path()), testing::UnorderedElementsAre("model", "new"));
}

TEST_F(BadOutput, ParentIsAFile) {
  WriteFile(Path("file"), "");
  ExpectRefused(Quantize(Path("file/output")), ErrorCode::kIo, "Not a directory");
  EXPECT_EQ(ReadFile(Path("file")), "");
}

TEST_F(BadOutput, OutputIsAFile) {
  WriteFile(Path("file"), "precious");
  ExpectRefused(Quantize(Path("file")), ErrorCode::kInvalidArgument, "exists already");
  EXPECT_EQ(ReadFile(Path("file")), "precious");
}

// Nobody, root included, makes directories below /proc.
TEST_F(BadOutput, ParentRefusesDirectories) {
  ExpectRefused(Quantize("/proc/narrow-output"), ErrorCode::kIo, "/proc/");
}

TEST_F(BadOutput, DirectoryThatIsNoCheckpointIsNeverReplaced) {
  std::filesystem::create_directory(Path("photos"));
  WriteFile(Path("photos/holiday.jpg"), "precious");
  const CommandResult result =
      RunNarrow(QuantizeArguments(model(), Path("photos"), {"--overwrite", "--skip_evaluation"}));
  ExpectRefused(result, ErrorCode::kInvalidArgument, "not replaced");
  EXPECT_EQ(ReadFile(Path("photos/holiday.jpg")), "precious");
}

// A write that fails half way, as on a full disk.
TEST_F(BadOutput, WriteFails) {
  const CommandResult result = Quantize(Path("output"), {.file_size_limit = 20000});
  ExpectRefused(result, ErrorCode::kIo, "model.safetensors");
  EXPECT_THAT(Names(scratch_.path()), testing::UnorderedElementsAre("model"));
}

TEST_F(BadOutput, FullDisk) {
  std::filesystem::create_directory(Path("disk"));
  if (::mount("none", Path("disk").c_str(), "tmpfs", 0, "size=64k") != 0) {
    GTEST_SKIP() << "a small file system cannot be mounted here: " << std::strerror(errno);
  }
  const CommandResult result = Quantize(Path("disk/output"));
  const std::set<std::string> left = Names(Path("disk"));
  EXPECT_EQ(::umount(Path("disk").c_str()), 0) << std::strerror(errno);
  ExpectRefused(result, ErrorCode::kIo, "64.0 KiB free");
  EXPECT_TRUE(left.empty()) << testing::PrintToString(left);
}

TEST_F(BadOutput, RequiredFlagsMissing) {
  ExpectRefused(RunNarrow({"quantize", "--output_dir", Path("output")}),
                ErrorCode::kInvalidArgument, "--model_dir");
  ExpectRefused(RunNarrow({"quantize", "--model_dir", model()}), ErrorCode::kInvalidArgument,
                "--output_dir");
  ExpectRefused(RunNarrow({}), ErrorCode::kInvalidArgument, "--help");
  ExpectRefused(RunNarrow({"quantise"}), ErrorCode::kInvalidArgument, "quantise");
  ExpectRefused(RunNarrow({"evaluate"}), ErrorCode::kInvalidArgument, "--model_dir");
}

TEST_F(BadOutput, OtherCommandsRefuseBadInputToo) {
  ExpectRefused(RunNarrow({"inspect", Path("nowhere")}), ErrorCode::kNotFound, "nowhere");
  ExpectRefused(RunNarrow({"evaluate", "--model_dir", Path("nowhere")}), ErrorCode::kNotFound,
                "nowhere");
  WriteFile(Path("broken.gguf"), "GGUF\3");
  ExpectRefused(RunNarrow({"import", Path("broken.gguf"), Path("output")}),
                ErrorCode::kCorruptInput, "broken.gguf");
  WriteFile(Path("lines.jsonl"), "{\"text\": \"a\"}\n{\"text\": 1}\n");
  ExpectRefused(
      RunNarrow({"tokenize", "--model_dir", model(), "--input_file", Path("lines.jsonl")}),
      ErrorCode::kCorruptInput, "line 2");
  EXPECT_FALSE(Names(scratch_.path()).contains("output"));
}

TEST_F(BadOutput, HelpAndVersionSucceed) {
  for (const char* flag : {"--help", "--version"}) {
    const CommandResult result = RunNarrow({flag});
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.output, HasSubstr("narrow"));
    EXPECT_EQ(result.error, "");
  }
  EXPECT_THAT(RunNarrow({"quantize", "--help"}).output, HasSubstr("--kv_cache_dtype"));
}

}  // namespace
}  // namespace narrow
