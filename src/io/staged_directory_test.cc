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

OutputMarker TestMarker() {
  OutputMarker marker;
  marker.command = "test";
  return marker;
}

// An output of this program's with one file.
void MakeOutput(const fs::path& directory, std::string_view contents) {
  StagedDirectory staged(directory, Existing::kReplace);
  WriteFileAtomically(staged.path() / "config.json", contents);
  staged.Commit(TestMarker());
}

TEST(StagedDirectory, AppearsOnlyAtCommit) {
  const ScratchDirectory scratch;
  const fs::path final_path = scratch.path() / "out";
  StagedDirectory staged(final_path / "", Existing::kRefuse);
  EXPECT_EQ(staged.final_path(), final_path);
  EXPECT_EQ(staged.path().parent_path(), scratch.path());
  EXPECT_EQ(staged.path().filename(), ".out.partial");
  fs::create_directory(staged.path() / "sub");
  WriteFileAtomically(staged.path() / "sub" / "f", "x");
  EXPECT_FALSE(fs::exists(final_path));
  staged.Commit(TestMarker());
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

TEST(StagedDirectory, ReplacesItsOwnAndAnEmptyDirectory) {
  const ScratchDirectory scratch;
  MakeOutput(scratch.path() / "out", "old");
  fs::create_directory(scratch.path() / "empty");
  fs::create_directory_symlink(scratch.path() / "out", scratch.path() / "link");
  for (const char* name : {"out", "empty", "link"}) {
    StagedDirectory staged(scratch.path() / name, Existing::kReplace);
    WriteFileAtomically(staged.path() / "new", "x");
    staged.Commit(TestMarker());
    EXPECT_TRUE(fs::exists(scratch.path() / name / "new"));
    EXPECT_FALSE(fs::exists(scratch.path() / name / "config.json"));
    EXPECT_FALSE(fs::exists(scratch.path() / name / kLockName));
  }
  EXPECT_EQ(scratch.Count(), 3);
}

TEST(StagedDirectory, ReplacingWithoutCommitKeepsTheOld) {
  const ScratchDirectory scratch;
  MakeOutput(scratch.path() / "out", "old");
  { const StagedDirectory staged(scratch.path() / "out", Existing::kReplace); }
  EXPECT_EQ(ReadWholeFile(scratch.path() / "out" / "config.json", 10), "old");
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, DoesNotReplaceWhatItDidNotMake) {
  const ScratchDirectory scratch;
  PutOld(scratch.path() / "home", "thesis.tex");
  PutOld(scratch.path() / "model", "config.json");
  PutOld(scratch.path() / "damaged", kMarkerName);
  MakeOutput(scratch.path() / "notes", "old");
  scratch.Put("notes/notes.txt", "x");
  MakeOutput(scratch.path() / "edited", "old");
  scratch.Put("edited/config.json", "new");
  scratch.Put("file", "x");
  fs::create_directory_symlink(scratch.path() / "home", scratch.path() / "link");
  const auto refused = [&](const char* name, std::string_view fragment) {
    ExpectError(ErrorCode::kInvalidArgument, fragment,
                [&] { StagedDirectory(scratch.path() / name, Existing::kReplace); });
  };
  refused("home", "thesis.tex");
  refused("model", "config.json");
  refused("damaged", kMarkerName);
  refused("notes", "notes.txt");
  refused("edited", "was changed");
  refused("file", "not a directory");
  refused("link", "thesis.tex");
  EXPECT_EQ(ReadWholeFile(scratch.path() / "home" / "thesis.tex", 10), "old");
  EXPECT_EQ(ReadWholeFile(scratch.path() / "notes" / "notes.txt", 10), "x");
  EXPECT_EQ(scratch.Count(), 7);
}

// The old one came to hold something while the new one was made.
TEST(StagedDirectory, LooksAgainBeforeItReplaces) {
  const ScratchDirectory scratch;
  MakeOutput(scratch.path() / "out", "old");
  {
    StagedDirectory staged(scratch.path() / "out", Existing::kReplace);
    scratch.Put("out/notes.txt", "x");
    ExpectError(ErrorCode::kInvalidArgument, "notes.txt", [&] { staged.Commit(TestMarker()); });
  }
  EXPECT_EQ(ReadWholeFile(scratch.path() / "out" / "config.json", 10), "old");
  EXPECT_EQ(ReadWholeFile(scratch.path() / "out" / "notes.txt", 10), "x");
}

TEST(StagedDirectory, MakesParentsAndRemovesThemWithoutCommit) {
  const ScratchDirectory scratch;
  { const StagedDirectory staged(scratch.path() / "a" / "b" / "out", Existing::kRefuse); }
  EXPECT_EQ(scratch.Count(), 0);
  MakeOutput(scratch.path() / "a" / "b" / "out", "x");
  EXPECT_TRUE(fs::exists(scratch.path() / "a" / "b" / "out" / "config.json"));
  ExpectError(ErrorCode::kInvalidArgument, "cannot be an output",
              [] { StagedDirectory("/", Existing::kReplace); });
}

// What a run left that was killed is ours by its lock file; a directory of the same name is not.
TEST(StagedDirectory, TakesOverWhatTheDeadLeft) {
  const ScratchDirectory scratch;
  PutOld(scratch.path() / ".out.partial", "model.safetensors");
  ExpectError(ErrorCode::kInvalidArgument, "model.safetensors",
              [&] { StagedDirectory(scratch.path() / "out", Existing::kRefuse); });
  EXPECT_EQ(scratch.Get(".out.partial/model.safetensors"), "old");
  EXPECT_FALSE(fs::exists(scratch.path() / ".out.partial" / kLockName));
  scratch.Put(".out.partial/.narrow-lock", "");
  MakeOutput(scratch.path() / "out", "x");
  EXPECT_FALSE(fs::exists(scratch.path() / "out" / "model.safetensors"));
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, DoesNotThrowAwayWhatCanBeContinued) {
  const ScratchDirectory scratch;
  const fs::path state = scratch.Put("state.json", "{}");
  std::string job;
  {
    StagedDirectory staged(scratch.path() / "out", Existing::kRefuse, state,
                           StagedDirectory::Continuable::kRefuse);
    staged.StartOver();
    job = staged.job();
    WriteFileAtomically(staged.path() / "f", "x");
    staged.KeepOnFailure();
  }
  ExpectError(ErrorCode::kInvalidArgument, "state.json",
              [&] { StagedDirectory(scratch.path() / "out", Existing::kRefuse); });
  {
    StagedDirectory staged(scratch.path() / "out", Existing::kRefuse, state,
                           StagedDirectory::Continuable::kRefuse);
    EXPECT_EQ(staged.job(), job);
    EXPECT_TRUE(fs::exists(staged.path() / "f"));
    staged.KeepOnFailure();
  }
  fs::remove(state);
  MakeOutput(scratch.path() / "out", "x");
  EXPECT_EQ(scratch.Count(), 1);
}

// Killed between the two steps of a replacement: the old one comes back.
TEST(StagedDirectory, BringsBackWhatWasMovedAside) {
  const ScratchDirectory scratch;
  MakeOutput(scratch.path() / "out", "old");
  fs::rename(scratch.path() / "out", scratch.path() / ".out.partial-replaced");
  ExpectError(ErrorCode::kInvalidArgument, "exists already",
              [&] { StagedDirectory(scratch.path() / "out", Existing::kRefuse); });
  EXPECT_EQ(scratch.Get("out/config.json"), "old");
  EXPECT_EQ(scratch.Count(), 1);
  // And after the second one it is no longer needed.
  fs::copy(scratch.path() / "out", scratch.path() / ".out.partial-replaced",
           fs::copy_options::recursive);
  MakeOutput(scratch.path() / "out", "new");
  EXPECT_EQ(scratch.Get("out/config.json"), "new");
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, DoesNotOverwriteWhatAppearedMeanwhile) {
  const ScratchDirectory scratch;
  {
    StagedDirectory staged(scratch.path() / "out", Existing::kRefuse);
    PutOld(scratch.path() / "out", "config.json");
    ExpectError(ErrorCode::kIo, "cannot be renamed", [&] { staged.Commit(TestMarker()); });
  }
  EXPECT_EQ(ReadWholeFile(scratch.path() / "out" / "config.json", 10), "old");
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, OneAtATime) {
  const ScratchDirectory scratch;
  StagedDirectory first(scratch.path() / "out", Existing::kRefuse);
  ExpectError(ErrorCode::kInvalidArgument, "in use by another run",
              [&] { StagedDirectory(scratch.path() / "out", Existing::kRefuse); });
  first.Commit(TestMarker());
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(StagedDirectory, UnwritableParent) {
  // The kernel's own read-only directory refuses even root.
  if (!fs::is_directory("/proc/self")) GTEST_SKIP() << "no /proc";
  ExpectError(ErrorCode::kIo, "cannot be created",
              [] { StagedDirectory("/proc/self/out", Existing::kRefuse); });
}

}  // namespace
}  // namespace narrow
