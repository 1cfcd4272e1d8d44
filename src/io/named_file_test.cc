#include "io/named_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

#include "io/file.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

mode_t ModeOf(const fs::path& path) {
  struct stat facts = {};
  EXPECT_EQ(::stat(path.c_str(), &facts), 0);
  return facts.st_mode;
}

TEST(NamedFile, IsReplacedWholeAndKeepsItsPermissions) {
  const ScratchDirectory scratch;
  const fs::path path = scratch.Put("f", "old contents that are longer");
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  const InputFile old(path);
  WriteNamedFile(path, "new");
  EXPECT_EQ(scratch.Get("f"), "new");
  EXPECT_EQ(ModeOf(path) & 07777, mode_t{0640});
  std::string still(3, ' ');
  old.ReadAt(0, std::as_writable_bytes(std::span(still)));
  EXPECT_EQ(still, "old");  // who reads it meanwhile reads the old one
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(NamedFile, IsWrittenWhereLinksLead) {
  const ScratchDirectory scratch;
  fs::create_directory(scratch.path() / "d");
  scratch.Put("d/real", "old");
  fs::create_symlink("d/real", scratch.path() / "link");
  fs::create_symlink("link", scratch.path() / "link2");
  fs::create_symlink("d/later", scratch.path() / "dangling");
  WriteNamedFile(scratch.path() / "link2", "new");
  WriteNamedFile(scratch.path() / "dangling", "made");
  EXPECT_EQ(scratch.Get("d/real"), "new");
  EXPECT_EQ(scratch.Get("d/later"), "made");
  for (const char* link : {"link", "link2", "dangling"}) {
    EXPECT_TRUE(fs::is_symlink(scratch.path() / link)) << link;
  }
}

TEST(NamedFile, MissingParentsAreMade) {
  const ScratchDirectory scratch;
  CheckNamedFile(scratch.path() / "a/b/f", "--json");
  EXPECT_EQ(scratch.Count(), 0);
  WriteNamedFile(scratch.path() / "a/b/f", "x");
  EXPECT_EQ(scratch.Get("a/b/f"), "x");
}

TEST(NamedFile, PipesAndDevicesAreWrittenTo) {
  const ScratchDirectory scratch;
  const fs::path pipe = scratch.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::string read(8, ' ');
  std::thread reader([&] {
    const FileDescriptor file(::open(pipe.c_str(), O_RDONLY));
    read.resize(static_cast<std::size_t>(::read(file.get(), read.data(), read.size())));
  });
  CheckNamedFile(pipe, "--json");
  WriteNamedFile(pipe, "result");
  reader.join();
  EXPECT_EQ(read, "result");
  EXPECT_TRUE(S_ISFIFO(ModeOf(pipe)));
  CheckNamedFile("/dev/full", "--json");
  ExpectError(ErrorCode::kIo, "/dev/full: disk full", [] { WriteNamedFile("/dev/full", "x"); });
  WriteNamedFile("/dev/null", "x");
  EXPECT_TRUE(S_ISCHR(ModeOf("/dev/full")) && S_ISCHR(ModeOf("/dev/null")));
}

// As /dev/stdout is where standard output goes to a file.
TEST(NamedFile, AFileThatIsBeingWrittenGoesOn) {
  const ScratchDirectory scratch;
  const FileDescriptor file(
      ::open((scratch.path() / "f").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  WriteToDescriptor(file.get(), "f", "first ");
  WriteNamedFile(fmt::format("/dev/fd/{}", file.get()), "second ");
  WriteNamedFile(scratch.path() / "f", "third");
  EXPECT_EQ(scratch.Get("f"), "first second third");
}

TEST(NamedFile, StaysInPlaceWhereItCannotBeReplaced) {
  const ScratchDirectory scratch;
  scratch.Put("source", "old contents that are longer");
  const fs::path mounted = scratch.Put("mounted", "");
  if (::mount((scratch.path() / "source").c_str(), mounted.c_str(), nullptr, MS_BIND, nullptr) !=
      0) {
    GTEST_SKIP() << "nothing can be mounted here: " << std::strerror(errno);
  }
  WriteNamedFile(mounted, "new");
  EXPECT_EQ(::umount(mounted.c_str()), 0);
  EXPECT_EQ(scratch.Get("source"), "new");
}

TEST(NamedFile, IsCheckedBeforeTheWork) {
  const ScratchDirectory scratch;
  scratch.Put("f", "x");
  ExpectError(ErrorCode::kInvalidArgument, "--json",
              [&] { CheckNamedFile(scratch.path(), "--json"); });
  ExpectError(ErrorCode::kIo, "cannot be created in",
              [&] { CheckNamedFile(scratch.path() / "f" / "g", "--json"); });
  if (!fs::is_directory("/proc/self")) GTEST_SKIP() << "no /proc";
  ExpectError(ErrorCode::kIo, "/proc/", [] { WriteNamedFile("/proc/self/result", "x"); });
}

}  // namespace
}  // namespace narrow
