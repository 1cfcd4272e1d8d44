// POSIX files as owned descriptors. Reads are positioned and copy into the caller's memory: nothing
// is mapped, so the resident memory of the process is what the program itself allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "io/byte_source.h"

namespace narrow {

// Owns a file descriptor; closes it. Move-only.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  int get() const { return descriptor_; }
  bool valid() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

// A regular file opened for reading.
class InputFile final : public ByteSource {
 public:
  // Throws: kNotFound when there is no such file, kIo when it cannot be opened or is not regular.
  explicit InputFile(std::filesystem::path path);

  const std::filesystem::path& path() const override { return path_; }
  int64_t size() const override { return size_; }
  int64_t modified_ns() const override { return modified_ns_; }  // st_mtim

  void ReadAt(int64_t offset, std::span<std::byte> bytes) const override;
  void CheckUnchanged() const override;  // by size and time
  // Tells the kernel that [offset, offset + count) is not needed in its cache any more.
  void DropCache(int64_t offset, int64_t count) const noexcept;

 private:
  std::filesystem::path path_;
  FileDescriptor descriptor_;
  int64_t size_ = 0;
  int64_t modified_ns_ = 0;
};

// A file being written at known offsets. Thread-safe: writes carry their offset.
class OutputFile {
 public:
  enum class Contents { kDiscard, kKeep };
  // Creates the file, or opens what is there. Throws: kIo.
  explicit OutputFile(std::filesystem::path path, Contents contents = Contents::kDiscard);

  const std::filesystem::path& path() const { return path_; }
  // Sets disk space aside for `bytes` from the start, so that a full disk is noticed before the
  // work that fills it; does nothing where the file system cannot. Throws: kIo.
  void Reserve(int64_t bytes);
  // Throws: kIo, naming the file and the cause (disk full included).
  void WriteAt(int64_t offset, std::span<const std::byte> bytes);
  // Flushes to stable storage. Throws: kIo.
  void Sync();
  // Flushes to stable storage and closes; the only way to learn that all writes arrived.
  void Close();

 private:
  std::filesystem::path path_;
  FileDescriptor descriptor_;
};

// Makes the entries of a directory durable. Throws: kIo.
void SyncDirectory(const std::filesystem::path& path);

// " (a symbolic link to TARGET, which does not exist)" when that is what `path` is, else "".
std::string DanglingLinkNote(const std::filesystem::path& path);

// " (it holds the text TARGET: a symbolic link that was copied as text ...)" when the file holds
// but the path of an existing file, relative to its directory; else "".
std::string LinkAsTextNote(const std::filesystem::path& path);

// The whole file. Throws as InputFile does, and kUnsupported above `max_bytes`.
std::string ReadWholeFile(const std::filesystem::path& path, int64_t max_bytes);

// Writes `contents` so that `path` holds either the old or the whole new contents: a temporary file
// beside it, fsync, rename. Throws: kIo.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view contents);

// Removes the temporary files that a process left in `directory` when it died in
// WriteFileAtomically. REQUIRES: no other process writes there, and the user keeps nothing there.
void RemoveTemporaryFiles(const std::filesystem::path& directory) noexcept;
// Those of one file. REQUIRES: no other process writes it.
void RemoveTemporariesOf(const std::filesystem::path& path) noexcept;

// Writes at the place where the descriptor is, a pipe's or a terminal's included; `what` names it
// in messages. Throws: kIo.
void WriteToDescriptor(int descriptor, std::string_view what, std::string_view contents);

}  // namespace narrow
