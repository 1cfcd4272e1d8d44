#include "io/directory_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "io/scratch_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using Missing = DirectoryLock::Missing;

TEST(DirectoryLock, IsHeldByOneAtATime) {
  const ScratchDirectory scratch;
  {
    auto first = DirectoryLock::Take(scratch.path(), Missing::kMake);
    ASSERT_TRUE(first);
    EXPECT_FALSE(first->found());
    first->Write({{"state", "there"}});
    EXPECT_FALSE(DirectoryLock::Take(scratch.path(), Missing::kMake));
    EXPECT_EQ(DescribeHolder(scratch.path()),
              fmt::format("in use by another run (process {})", ::getpid()));
  }
  EXPECT_EQ(scratch.Count(), 0);
  EXPECT_FALSE(DirectoryLock::Take(scratch.path(), Missing::kLeave));
  EXPECT_FALSE(DirectoryLock::Take(scratch.path() / "absent", Missing::kMake));
}

TEST(DirectoryLock, IsFoundAfterItsRunDied) {
  const ScratchDirectory scratch;
  const pid_t child = ::fork();
  if (child == 0) {
    auto lock = DirectoryLock::Take(scratch.path(), Missing::kMake);
    lock->Write({{"state", std::string(3000, 'a')}});
    lock->Write({{"state", "there"}});
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  const auto lock = DirectoryLock::Take(scratch.path(), Missing::kLeave);
  ASSERT_TRUE(lock);
  EXPECT_TRUE(lock->found());
  EXPECT_EQ(lock->note().at("state"), "there");
  EXPECT_EQ(lock->note().at("pid"), child);
}

TEST(DirectoryLock, NoteThatCannotBeReadIsNone) {
  for (const char* text : {"", "{", "[1]", "\xff"}) {
    const ScratchDirectory scratch;
    scratch.Put(kLockName, text);
    const auto lock = DirectoryLock::Take(scratch.path(), Missing::kLeave);
    ASSERT_TRUE(lock);
    EXPECT_TRUE(lock->found());
    EXPECT_TRUE(lock->note().is_null());
  }
}

TEST(TemporaryDirectory, IsGoneWithTheObject) {
  const ScratchDirectory scratch;
  {
    const TemporaryDirectory directory(scratch.path());
    EXPECT_EQ(directory.path().parent_path(), scratch.path());
    WriteFileAtomically(directory.path() / "f", "x");
    EXPECT_EQ(scratch.Count(), 1);
  }
  EXPECT_EQ(scratch.Count(), 0);
  ExpectError(ErrorCode::kIo, "absent", [&] { TemporaryDirectory(scratch.path() / "absent"); });
}

TEST(TemporaryDirectory, RemovesThoseOfTheDeadAndNoOther) {
  const ScratchDirectory scratch;
  const pid_t child = ::fork();
  if (child == 0) {
    const TemporaryDirectory dead(scratch.path());
    WriteFileAtomically(dead.path() / "hidden", "x");
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(scratch.Count(), 1);
  const fs::path foreign = scratch.path() / ".narrow-tmp-notes";  // its name alone is no reason
  fs::create_directory(foreign);
  WriteFileAtomically(foreign / "notes.txt", "precious");
  const TemporaryDirectory live(scratch.path());
  WriteFileAtomically(live.path() / "hidden", "x");
  const TemporaryDirectory other(scratch.path());
  EXPECT_TRUE(fs::exists(live.path() / "hidden"));
  EXPECT_TRUE(fs::exists(foreign / "notes.txt"));
  EXPECT_EQ(scratch.Count(), 3);
}

}  // namespace
}  // namespace narrow
