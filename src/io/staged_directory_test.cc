#include "io/staged_directory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "io/file.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using Existing = StagedDirectory::Existing;

void PutOld(const fs::path& directory, std::string_view name) {
  fs::create_directory(directory);
  WriteFileAtomically(directory / name, "old");
}

TEST(StagedDirectory, AppearsOnlyAtCommit) {
  const ScratchDirectory scratch;
  const fs::path final_path = scratch.path() / "out";
  StagedDirectory staged(final_path / "", Existing::kRefuse);
  EXPECT_EQ(staged.final_path(), final_path);
  EXPECT_EQ(staged.path().parent_path(), scratch.path());
  EXPECT_TRUE(staged.path().filename().string().starts_with(".out.partial-"));
  fs::create_directory(staged.path() / "sub");
  WriteFileAtomically(staged.path() / "sub" / "f", "x");
  EXPECT_FALSE(fs::exists(final_path));
  staged.Commit();
  EXPECT_TRUE(fs::exists(final_path / "sub" / "f"));
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, RemovesEverythingWithoutCommit) {
  const ScratchDirectory scratch;
  {
    const StagedDirectory staged(scratch.path() / "out", Existing::kRefuse);
    WriteFileAtomically(staged.path() / "f", "x");
    EXPECT_EQ(scratch.Count(), 1);
  }
  EXPECT_EQ(scratch.Count(), 0);
}

TEST(StagedDirectory, RefusesAnExistingOne) {
  const ScratchDirectory scratch;
  PutOld(scratch.path() / "out", "config.json");
  ExpectError(ErrorCode::kInvalidArgument, "--overwrite",
              [&] { StagedDirectory(scratch.path() / "out", Existing::kRefuse); });
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, ReplacesACheckpointAndAnEmptyDirectory) {
  const ScratchDirectory scratch;
  PutOld(scratch.path() / "out", "config.json");
  fs::create_directory(scratch.path() / "empty");
  for (const char* name : {"out", "empty"}) {
    StagedDirectory staged(scratch.path() / name, Existing::kReplace);
    WriteFileAtomically(staged.path() / "new", "x");
    staged.Commit();
    EXPECT_TRUE(fs::exists(scratch.path() / name / "new"));
    EXPECT_FALSE(fs::exists(scratch.path() / name / "config.json"));
  }
  EXPECT_EQ(scratch.Count(), 2);
}

TEST(StagedDirectory, ReplacingWithoutCommitKeepsTheOld) {
  const ScratchDirectory scratch;
  PutOld(scratch.path() / "out", "config.json");
  { const StagedDirectory staged(scratch.path() / "out", Existing::kReplace); }
  EXPECT_EQ(ReadWholeFile(scratch.path() / "out" / "config.json", 10), "old");
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, DoesNotReplaceWhatIsNotACheckpoint) {
  const ScratchDirectory scratch;
  PutOld(scratch.path() / "home", "thesis.tex");
  scratch.Put("file", "x");
  fs::create_directory_symlink(scratch.path() / "home", scratch.path() / "link");
  const auto refused = [&](const char* name, std::string_view fragment) {
    ExpectError(ErrorCode::kInvalidArgument, fragment,
                [&] { StagedDirectory(scratch.path() / name, Existing::kReplace); });
  };
  refused("home", "no config.json");
  refused("file", "not a directory");
  refused("link", "not a directory");
  EXPECT_EQ(ReadWholeFile(scratch.path() / "home" / "thesis.tex", 10), "old");
}

TEST(StagedDirectory, NeedsAParent) {
  const ScratchDirectory scratch;
  ExpectError(ErrorCode::kIo, "not an existing directory",
              [&] { StagedDirectory(scratch.path() / "absent" / "out", Existing::kRefuse); });
  EXPECT_EQ(scratch.Count(), 0);
  ExpectError(ErrorCode::kInvalidArgument, "cannot be an output",
              [] { StagedDirectory("/", Existing::kReplace); });
}

TEST(StagedDirectory, DoesNotOverwriteWhatAppearedMeanwhile) {
  const ScratchDirectory scratch;
  {
    StagedDirectory staged(scratch.path() / "out", Existing::kRefuse);
    PutOld(scratch.path() / "out", "config.json");
    ExpectError(ErrorCode::kIo, "cannot be renamed", [&] { staged.Commit(); });
  }
  EXPECT_EQ(ReadWholeFile(scratch.path() / "out" / "config.json", 10), "old");
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, TwoAtOnceDoNotMeet) {
  const ScratchDirectory scratch;
  StagedDirectory first(scratch.path() / "out", Existing::kRefuse);
  StagedDirectory second(scratch.path() / "out", Existing::kRefuse);
  EXPECT_NE(first.path(), second.path());
  first.Commit();
  ExpectError(ErrorCode::kIo, "cannot be renamed", [&] { second.Commit(); });
}

TEST(StagedDirectory, UnwritableParent) {
  // The kernel's own read-only directory refuses even root.
  if (!fs::is_directory("/proc/self")) GTEST_SKIP() << "no /proc";
  ExpectError(ErrorCode::kIo, "cannot be created",
              [] { StagedDirectory("/proc/self/out", Existing::kRefuse); });
}

}  // namespace
}  // namespace narrow
