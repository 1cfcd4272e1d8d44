#include "io/named_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <span>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/interrupt.h"
#include "io/directory_lock.h"
#include "io/file.h"
#include "io/paths.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDescriptor = 1024;

std::string Cause(int error) { return std::generic_category().message(error); }

std::optional<struct stat> FactsOf(const fs::path& path) {
  struct stat facts = {};
  if (::stat(path.c_str(), &facts) != 0) return std::nullopt;
  return facts;
}

// A descriptor that is open for writing to the file; -1: none.
int OpenDescriptor(const struct stat& file) {
  for (int descriptor = 0; descriptor < kMaxDescriptor; ++descriptor) {
    struct stat facts = {};
    if (::fstat(descriptor, &facts) != 0 || facts.st_dev != file.st_dev ||
        facts.st_ino != file.st_ino) {
      continue;
    }
    const int flags = ::fcntl(descriptor, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY) return descriptor;
  }
  return -1;
}

// Waits for the reader of a pipe, unless the user wants to stop.
FileDescriptor OpenForWriting(const fs::path& path) {
  for (;;) {
    FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
    if (file.valid()) return file;
    if (errno != EINTR) {
      Fail(ErrorCode::kIo, "{}: cannot be opened: {}", path.string(), Cause(errno));
    }
    ThrowIfStopRequested("nothing was written to what was waited for");
  }
}

void WriteInPlace(const fs::path& path, std::string_view contents) {
  const FileDescriptor file = OpenForWriting(path);
  WriteToDescriptor(file.get(), path.string(), contents);
  // Only now, so that a disk that is full leaves as much as it can.
  if (::ftruncate(file.get(), static_cast<off_t>(contents.size())) != 0 ||
      ::fsync(file.get()) != 0) {
    Fail(ErrorCode::kIo, "{}: cannot be written: {}", path.string(), Cause(errno));
  }
}

// False when the directory takes no new file, or the file stays in its place whatever comes.
bool Replace(const fs::path& target, const std::optional<struct stat>& old,
             std::string_view contents) {
  const fs::path parent = target.parent_path();
  if (old && ::access(parent.c_str(), W_OK | X_OK) != 0) return false;
  const TemporaryDirectory temporary(parent);
  const fs::path path = temporary.path() / "contents";
  OutputFile file(path);
  file.WriteAt(0, std::as_bytes(std::span(contents)));
  file.Close();
  if (old) {
    // The owner, where we may; the permissions, or the file is not replaced.
    static_cast<void>(::chown(path.c_str(), old->st_uid, old->st_gid) != 0);
    if (::chmod(path.c_str(), old->st_mode & 07777) != 0) return false;
  }
  if (::rename(path.c_str(), target.c_str()) != 0) {
    if (old && (errno == EBUSY || errno == EPERM || errno == EACCES)) return false;
    Fail(ErrorCode::kIo, "{}: cannot be put in place: {}", target.string(), Cause(errno));
  }
  SyncDirectory(parent);
  return true;
}

}  // namespace

void CheckNamedFile(const fs::path& path, std::string_view flag) {
  const std::optional<struct stat> facts = FactsOf(path);
  if (path.filename().empty() || (facts && S_ISDIR(facts->st_mode))) {
    Fail(ErrorCode::kInvalidArgument, "{} {}: expected the name of a file, found a directory", flag,
         path.string());
  }
  if (facts) {
    if (OpenDescriptor(*facts) < 0 && ::access(path.c_str(), W_OK) != 0) {
      Fail(ErrorCode::kIo, "{} {}: cannot be written to: {}", flag, path.string(), Cause(errno));
    }
    return;
  }
  std::error_code error;
  fs::path parent = ResolvePath(path).parent_path();
  while (!fs::exists(parent, error) && parent.has_relative_path()) parent = parent.parent_path();
  if (!fs::is_directory(parent, error) || ::access(parent.c_str(), W_OK | X_OK) != 0) {
    Fail(ErrorCode::kIo, "{} {}: cannot be created in {}", flag, path.string(), parent.string());
  }
}

void WriteNamedFile(const fs::path& path, std::string_view contents) {
  const std::optional<struct stat> facts = FactsOf(path);
  if (facts) {
    if (const int descriptor = OpenDescriptor(*facts); descriptor >= 0) {
      return WriteToDescriptor(descriptor, path.string(), contents);
    }
    if (!S_ISREG(facts->st_mode)) {
      return WriteToDescriptor(OpenForWriting(path).get(), path.string(), contents);
    }
  }
  const fs::path target = ResolvePath(path);
  if (!facts) MakeDirectories(target.parent_path());
  if (!Replace(target, facts, contents)) WriteInPlace(target, contents);
}

}  // namespace narrow
