// Tells a directory that a run works in from any other: a lock file in it, held while the run
// lives.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "io/file.h"
#include "io/json.h"

namespace narrow {

inline constexpr std::string_view kLockName = ".narrow-lock";

// The lock of one directory: `flock` on the lock file, or, on file systems without it, the process
// id in the file. A process that dies leaves the file unlocked, by which the next run knows whose
// the directory is. Move-only.
class DirectoryLock {
 public:
  enum class Missing { kMake, kLeave };
  // Nothing when a live run holds the lock, when there is none to be made (kLeave), or when the
  // directory went away. Throws: kIo.
  static std::optional<DirectoryLock> Take(const std::filesystem::path& directory, Missing missing);
  ~DirectoryLock();
  DirectoryLock(DirectoryLock&& other) noexcept = default;
  DirectoryLock& operator=(DirectoryLock&& other) noexcept;

  // The lock file was there: a run that died worked in the directory.
  bool found() const { return found_; }
  // What that run wrote down; null when it wrote nothing that can be read.
  const Json& note() const { return note_; }
  // Replaces the note, an object; program and process id are added. Throws: kIo.
  void Write(Json note);
  // The lock file outlives the object, for a later run. So does one that was found.
  void Keep() { keep_ = true; }
  // Removes the lock file now; the directory stays locked against who had opened it.
  void Remove() noexcept;

 private:
  DirectoryLock(std::filesystem::path path, FileDescriptor file, bool found);

  std::filesystem::path path_;
  FileDescriptor file_;
  bool found_ = false;
  bool keep_ = false;
  Json note_;
};

// "in use by another run (process 123)", for the directory whose lock could not be taken.
std::string DescribeHolder(const std::filesystem::path& directory);

// Removes a directory of this program's: everything in it, then its lock file, then itself, so that
// one that dies on the way leaves a directory that is still known as its own.
void RemoveLocked(const std::filesystem::path& directory, DirectoryLock& lock) noexcept;

// A directory for a few moments, hidden inside another one and gone with the object. What dead runs
// of the same user left of theirs in the same place is removed first. Thread-compatible.
class TemporaryDirectory {
 public:
  // `parent` exists. Throws: kIo, naming it.
  explicit TemporaryDirectory(const std::filesystem::path& parent);
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::optional<DirectoryLock> lock_;
};

}  // namespace narrow
