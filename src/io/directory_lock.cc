#include "io/directory_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/version.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryPrefix = ".narrow-tmp-";
constexpr int kMaxAttempts = 100;
constexpr int64_t kMaxNoteBytes = 1 << 16;
constexpr int kNoteBytes = 16 << 10;  // more than two paths take

std::string Cause(int error) { return std::generic_category().message(error); }

int OpenRetrying(const fs::path& path, int flags) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0666);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// What the lock file of a directory says; null when there is nothing that can be read.
Json ReadNote(const fs::path& path) {
  try {
    Json note = ParseJson(ReadWholeFile(path, kMaxNoteBytes), "lock file");
    return note.is_object() ? note : Json();
  } catch (const Error&) {
    return {};
  }
}

int64_t HolderProcess(const Json& note) {
  const auto found = note.is_object() ? note.find("pid") : note.end();
  return found != note.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

bool IsAlive(int64_t process) {
  if (process <= 0 || process == ::getpid()) return false;
  return ::kill(static_cast<pid_t>(process), 0) == 0 || errno == EPERM;
}

// Whether the lock is ours now.
bool Acquire(int descriptor, const fs::path& path) {
  int result = 0;
  do {
    result = ::flock(descriptor, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) return false;
  // A file system without flock: the process id has to do.
  if (result != 0 && IsAlive(HolderProcess(ReadNote(path)))) return false;
  // Whoever held it before may have removed or moved the directory in the meantime.
  struct stat opened = {};
  struct stat there = {};
  return ::fstat(descriptor, &opened) == 0 && ::lstat(path.c_str(), &there) == 0 &&
         opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

void RemoveDead(const fs::path& directory) {
  struct stat facts = {};
  if (::lstat(directory.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode) ||
      facts.st_uid != ::geteuid()) {
    return;
  }
  if (::rmdir(directory.c_str()) == 0) return;  // it died before it had locked it
  if (auto lock = DirectoryLock::Take(directory, DirectoryLock::Missing::kLeave)) {
    RemoveLocked(directory, *lock);
  }
}

void RemoveDeadTemporaries(const fs::path& parent) {
  std::error_code error;
  std::vector<fs::path> candidates;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename().native().starts_with(kTemporaryPrefix)) {
      candidates.push_back(entry->path());
    }
  }
  for (const fs::path& candidate : candidates) {
    try {
      RemoveDead(candidate);
    } catch (const Error&) {  // it only takes space
    }
  }
}

}  // namespace

std::optional<DirectoryLock> DirectoryLock::Take(const fs::path& directory, Missing missing) {
  const fs::path path = directory / kLockName;
  bool found = true;
  FileDescriptor file(OpenRetrying(path, O_RDWR));
  if (!file.valid() && errno == ENOENT && missing == Missing::kMake) {
    found = false;
    file = FileDescriptor(OpenRetrying(path, O_RDWR | O_CREAT | O_EXCL));
  }
  if (!file.valid()) {
    if (errno == ENOENT || errno == EEXIST) return std::nullopt;
    Fail(ErrorCode::kIo, "{}: cannot be created: {}", path.string(), Cause(errno));
  }
  if (!Acquire(file.get(), path)) return std::nullopt;
  return DirectoryLock(path, std::move(file), found);
}

DirectoryLock::DirectoryLock(fs::path path, FileDescriptor file, bool found)
    : path_(std::move(path)), file_(std::move(file)), found_(found), keep_(found) {
  if (found_) note_ = ReadNote(path_);
}

DirectoryLock::~DirectoryLock() {
  if (file_.valid() && !keep_) ::unlink(path_.c_str());
}

DirectoryLock& DirectoryLock::operator=(DirectoryLock&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(found_, other.found_);
  std::swap(keep_, other.keep_);
  std::swap(note_, other.note_);
  return *this;
}

void DirectoryLock::Write(Json note) {
  note["program"] = std::string("narrow ") + kVersion;
  note["pid"] = static_cast<int64_t>(::getpid());
  // Over the old text in one piece, so that a run that dies meanwhile leaves one of the two.
  std::string text = note.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize(std::max(text.size(), std::size_t{kNoteBytes}), ' ');
  OutputFile(path_, OutputFile::Contents::kKeep).WriteAt(0, std::as_bytes(std::span(text)));
  note_ = std::move(note);
}

void DirectoryLock::Remove() noexcept {
  ::unlink(path_.c_str());
  keep_ = true;  // there is nothing left to remove
}

std::string DescribeHolder(const fs::path& directory) {
  const int64_t process = HolderProcess(ReadNote(directory / kLockName));
  if (process <= 0) return "in use by another run";
  return fmt::format("in use by another run (process {})", process);
}

void RemoveLocked(const fs::path& directory, DirectoryLock& lock) noexcept {
  std::error_code error;  // what stays takes space, and the next run tries again
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename() != kLockName) entries.push_back(entry->path());
  }
  bool all = !error;
  for (const fs::path& entry : entries) {
    fs::remove_all(entry, error);
    all = all && !error;
  }
  if (!all) return lock.Keep();
  lock.Remove();
  ::rmdir(directory.c_str());
}

TemporaryDirectory::TemporaryDirectory(const fs::path& parent) {
  RemoveDeadTemporaries(parent);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    std::string name = (parent / fmt::format("{}XXXXXX", kTemporaryPrefix)).string();
    if (::mkdtemp(name.data()) == nullptr) {
      Fail(ErrorCode::kIo, "{}: no directory can be made there: {}", parent.string(), Cause(errno));
    }
    path_ = name;
    // Another run may take it for a dead one's before it is locked; then there is a next one.
    lock_ = DirectoryLock::Take(path_, DirectoryLock::Missing::kMake);
    if (!lock_) continue;
    try {
      lock_->Write(Json::object());
    } catch (const Error&) {
      RemoveLocked(path_, *lock_);
      throw;
    }
    return;
  }
  Fail(ErrorCode::kIo, "{}: directories made there go away at once", parent.string());
}

TemporaryDirectory::~TemporaryDirectory() {
  if (lock_) RemoveLocked(path_, *lock_);
}

}  // namespace narrow
