#include "io/file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "io/scratch_directory.h"

namespace narrow {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(InputFile, ReadsAtOffsets) {
  const ScratchDirectory scratch;
  const InputFile file(scratch.Put("f", "0123456789"));
  EXPECT_EQ(file.size(), 10);
  EXPECT_GT(file.modified_ns(), 0);
  std::string part(4, ' ');
  file.ReadAt(3, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "3456");
  file.DropCache(0, 10);
  ExpectError(ErrorCode::kCorruptInput, "ends at offset 10",
              [&] { file.ReadAt(8, std::as_writable_bytes(std::span(part))); });
}

TEST(InputFile, NoticesAFileThatShrank) {
  const ScratchDirectory scratch;
  const InputFile file(scratch.Put("f", "0123456789"));
  std::filesystem::resize_file(file.path(), 5);
  std::string whole(10, ' ');
  ExpectError(ErrorCode::kCorruptInput, "it had 10 when opened",
              [&] { file.ReadAt(0, std::as_writable_bytes(std::span(whole))); });
}

TEST(InputFile, RefusesWhatIsNotARegularFile) {
  const ScratchDirectory scratch;
  ExpectError(ErrorCode::kNotFound, "absent", [&] { InputFile(scratch.path() / "absent"); });
  scratch.Put("f", "");
  ExpectError(ErrorCode::kNotFound, "f/g", [&] { InputFile(scratch.path() / "f" / "g"); });
  ExpectError(ErrorCode::kIo, "a directory", [&] { InputFile{scratch.path()}; });
  const std::filesystem::path pipe = scratch.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  ExpectError(ErrorCode::kIo, "a special file", [&] { InputFile{pipe}; });
}

TEST(OutputFile, WritesAtOffsetsInAnyOrder) {
  const ScratchDirectory scratch;
  OutputFile file(scratch.path() / "f");
  file.Reserve(10);
  file.WriteAt(5, Bytes("56789"));
  file.WriteAt(0, Bytes("01234"));
  file.Close();
  EXPECT_EQ(scratch.Get("f"), "0123456789");
  ExpectError(ErrorCode::kIo, "cannot be created: No such file",
              [&] { OutputFile(scratch.path() / "absent" / "f"); });
}

TEST(OutputFile, SaysWhyItCannotWrite) {
  OutputFile full("/dev/full");
  ExpectError(ErrorCode::kIo, "/dev/full: disk full: 3 bytes could not be written",
              [&] { full.WriteAt(0, Bytes("abc")); });
}

TEST(ReadWholeFile, LimitsTheSize) {
  const ScratchDirectory scratch;
  const auto path = scratch.Put("f", std::string("a\0b", 3));
  EXPECT_EQ(ReadWholeFile(path, 3), std::string("a\0b", 3));
  ExpectError(ErrorCode::kUnsupported, "at most 2", [&] { ReadWholeFile(path, 2); });
}

TEST(WriteFileAtomically, ReplacesAndLeavesNothingElse) {
  const ScratchDirectory scratch;
  const auto path = scratch.Put("f", "old");
  WriteFileAtomically(path, "new contents");
  EXPECT_EQ(scratch.Get("f"), "new contents");
  EXPECT_EQ(scratch.Count(), 1);
  WriteFileAtomically(scratch.path() / "empty", "");
  EXPECT_EQ(scratch.Count(), 2);
}

TEST(WriteFileAtomically, CleansUpAfterAnError) {
  const ScratchDirectory scratch;
  const std::filesystem::path taken = scratch.path() / "taken";
  std::filesystem::create_directory(taken);
  ExpectError(ErrorCode::kIo, "cannot be put in place", [&] { WriteFileAtomically(taken, "x"); });
  EXPECT_EQ(scratch.Count(), 1);
  ExpectError(ErrorCode::kIo, "cannot be created",
              [&] { WriteFileAtomically(scratch.path() / "absent" / "f", "x"); });
}

// A file system of 256 KiB, for as long as the object lives.
class SmallDisk {
 public:
  SmallDisk() {
    mounted_ = ::mount("tmpfs", scratch_.path().c_str(), "tmpfs", 0, "size=256k") == 0;
    error_ = errno;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(scratch_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  int error() const { return error_; }
  const ScratchDirectory& directory() const { return scratch_; }

 private:
  ScratchDirectory scratch_;
  bool mounted_ = false;
  int error_ = 0;
};

TEST(DiskFull, IsNamedAndLeavesNothing) {
  const SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small tmpfs failed with errno " << disk.error();
  const std::filesystem::path path = disk.directory().path() / "f";
  const std::string large(1 << 20, 'x');
  ExpectError(ErrorCode::kIo, "disk full", [&] { WriteFileAtomically(path, large); });
  EXPECT_EQ(disk.directory().Count(), 0);
  OutputFile file(path);
  ExpectError(ErrorCode::kIo, "disk full: 1048576 bytes", [&] { file.Reserve(1 << 20); });
  ExpectError(ErrorCode::kIo, "disk full", [&] { file.WriteAt(0, Bytes(large)); });
}

}  // namespace
}  // namespace narrow
