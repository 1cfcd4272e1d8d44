#include "io/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"

namespace narrow {
namespace {

// Linux transfers at most about 2 GiB per call; smaller pieces also keep signals responsive.
constexpr std::size_t kMaxTransferBytes = std::size_t{1} << 30;

constexpr int kPollMilliseconds = 1000;

constexpr std::string_view kTemporaryMark = ".partial-";  // then the process id

std::string Cause(int error) { return std::generic_category().message(error); }

[[noreturn]] void FailWrite(std::string_view what, int error, int64_t missing_bytes) {
  if (error == ENOSPC || error == EDQUOT) {
    Fail(ErrorCode::kIo, "{}: disk full: {} bytes could not be written ({}); free some space", what,
         missing_bytes, Cause(error));
  }
  if (error == EFBIG) {
    Fail(ErrorCode::kIo,
         "{}: {} bytes could not be written: the file would be larger than may be (ulimit -f, or "
         "the file system's limit)",
         what, missing_bytes);
  }
  Fail(ErrorCode::kIo, "{}: {} bytes could not be written: {}", what, missing_bytes, Cause(error));
}

int OpenRetrying(const std::filesystem::path& path, int flags, mode_t mode) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

int64_t ModifiedNanoseconds(const struct stat& status) {
  return int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (valid()) ::close(descriptor_);
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (valid()) ::close(descriptor_);
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer.
  descriptor_ = FileDescriptor(OpenRetrying(path_, O_RDONLY | O_NONBLOCK, 0));
  if (!descriptor_.valid()) {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR;
    Fail(absent ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot be opened: {}{}",
         path_.string(), Cause(error), DanglingLinkNote(path_));
  }
  struct stat status = {};
  if (::fstat(descriptor_.get(), &status) != 0) {
    Fail(ErrorCode::kIo, "{}: cannot be examined: {}", path_.string(), Cause(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    Fail(ErrorCode::kIo, "{}: expected a regular file, found {}", path_.string(),
         S_ISDIR(status.st_mode) ? "a directory" : "a special file");
  }
  size_ = status.st_size;
  modified_ns_ = ModifiedNanoseconds(status);
}

void InputFile::ReadAt(int64_t offset, std::span<std::byte> bytes) const {
  NARROW_CHECK(offset >= 0);
  while (!bytes.empty()) {
    const ssize_t count =
        ::pread(descriptor_.get(), bytes.data(), std::min(bytes.size(), kMaxTransferBytes), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      Fail(ErrorCode::kIo, "{}: reading at offset {} failed: {}", path_.string(), offset,
           Cause(errno));
    }
    if (count == 0) {
      Fail(ErrorCode::kCorruptInput,
           "{}: the file ends at offset {}, {} more bytes were expected (it had {} when opened)",
           path_.string(), offset, bytes.size(), size_);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void InputFile::CheckUnchanged() const {
  struct stat now = {};
  if (::fstat(descriptor_.get(), &now) != 0) {
    Fail(ErrorCode::kIo, "{}: cannot be examined: {}", path_.string(), Cause(errno));
  }
  if (now.st_size != size_ || ModifiedNanoseconds(now) != modified_ns_) {
    Fail(ErrorCode::kCorruptInput,
         "{} was changed while it was being read; start again when nothing writes to it",
         path_.string());
  }
}

void InputFile::DropCache(int64_t offset, int64_t count) const noexcept {
  // Advice only: where the kernel does not take it, nothing is lost but memory it can reclaim.
  static_cast<void>(::posix_fadvise(descriptor_.get(), offset, count, POSIX_FADV_DONTNEED));
}

OutputFile::OutputFile(std::filesystem::path path, Contents contents) : path_(std::move(path)) {
  const int truncate = contents == Contents::kDiscard ? O_TRUNC : 0;
  descriptor_ = FileDescriptor(OpenRetrying(path_, O_WRONLY | O_CREAT | truncate, 0666));
  if (!descriptor_.valid()) {
    Fail(ErrorCode::kIo, "{}: cannot be created: {}", path_.string(), Cause(errno));
  }
}

void OutputFile::Reserve(int64_t bytes) {
  NARROW_CHECK(descriptor_.valid());
  if (bytes == 0) return;
  int result = 0;
  do {
    result = ::fallocate(descriptor_.get(), 0, 0, bytes);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return;
  // A file system without the call (EOPNOTSUPP) reports a full disk at the write instead.
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) FailWrite(path_.string(), errno, bytes);
}

void OutputFile::WriteAt(int64_t offset, std::span<const std::byte> bytes) {
  NARROW_CHECK(offset >= 0 && descriptor_.valid());
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor_.get(), bytes.data(),
                                   std::min(bytes.size(), kMaxTransferBytes), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) FailWrite(path_.string(), errno, static_cast<int64_t>(bytes.size()));
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void OutputFile::Sync() {
  NARROW_CHECK(descriptor_.valid());
  // Some file systems report a full disk only here.
  if (::fsync(descriptor_.get()) != 0) {
    Fail(ErrorCode::kIo, "{}: writing to stable storage failed: {}", path_.string(), Cause(errno));
  }
}

void OutputFile::Close() {
  Sync();
  const FileDescriptor closed = std::move(descriptor_);
}

void SyncDirectory(const std::filesystem::path& path) {
  const FileDescriptor directory(OpenRetrying(path, O_RDONLY | O_DIRECTORY, 0));
  if (!directory.valid()) {
    Fail(ErrorCode::kIo, "{}: cannot be opened: {}", path.string(), Cause(errno));
  }
  // Network file systems may not support it; their directory entries are durable at the server.
  if (::fsync(directory.get()) != 0 && errno != EINVAL && errno != EROFS) {
    Fail(ErrorCode::kIo, "{}: writing to stable storage failed: {}", path.string(), Cause(errno));
  }
}

std::string LinkAsTextNote(const std::filesystem::path& path) {
  constexpr int64_t kLongestPath = 4096;
  std::string text;
  try {
    text = ReadWholeFile(path, kLongestPath);
  } catch (const Error&) {
    return "";
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (text.empty() || text.find_first_of(std::string_view("{[\"\n\0", 5)) != text.npos) return "";
  std::error_code error;
  if (!std::filesystem::is_regular_file(path.parent_path() / text, error)) return "";
  return fmt::format(
      " (it holds the text {}: a symbolic link that was copied as text; copy what it leads to)",
      text);
}

std::string DanglingLinkNote(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error) || std::filesystem::exists(path, error)) return "";
  return fmt::format(" (a symbolic link to {}, which does not exist)",
                     std::filesystem::read_symlink(path, error).string());
}

std::string ReadWholeFile(const std::filesystem::path& path, int64_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes) {
    Fail(ErrorCode::kUnsupported, "{}: {} bytes, at most {} are accepted", path.string(),
         file.size(), max_bytes);
  }
  std::string contents(static_cast<std::size_t>(file.size()), '\0');
  file.ReadAt(0, std::as_writable_bytes(std::span(contents)));
  return contents;
}

void WriteFileAtomically(const std::filesystem::path& path, std::string_view contents) {
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
  const std::filesystem::path temporary =
      parent / fmt::format(".{}{}{}", path.filename().string(), kTemporaryMark, ::getpid());
  try {
    OutputFile file(temporary);
    file.WriteAt(0, std::as_bytes(std::span(contents)));
    file.Close();
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      Fail(ErrorCode::kIo, "{}: cannot be put in place: {}", path.string(), Cause(errno));
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  SyncDirectory(parent);
}

namespace {

// Whether a name is one that WriteFileAtomically gives: ".<of>.partial-<process>".
bool IsTemporaryName(std::string_view name, std::string_view of) {
  const std::size_t mark = name.rfind(kTemporaryMark);
  if (!name.starts_with('.') || mark == std::string_view::npos) return false;
  const std::string_view process = name.substr(mark + kTemporaryMark.size());
  return (of.empty() || name.substr(1, mark - 1) == of) && !process.empty() &&
         process.find_first_not_of("0123456789") == std::string_view::npos;
}

void RemoveTemporaries(const std::filesystem::path& directory, std::string_view of) noexcept {
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  while (!error && entry != std::filesystem::directory_iterator()) {
    const std::filesystem::path path = entry->path();
    std::error_code ignored;  // what stays does no harm but take space
    if (IsTemporaryName(path.filename().native(), of) && entry->is_regular_file(ignored)) {
      std::filesystem::remove(path, ignored);
    }
    entry.increment(error);
  }
}

}  // namespace

void RemoveTemporaryFiles(const std::filesystem::path& directory) noexcept {
  RemoveTemporaries(directory, "");
}

void RemoveTemporariesOf(const std::filesystem::path& path) noexcept {
  RemoveTemporaries(path.parent_path(), path.filename().native());
}

void WriteToDescriptor(int descriptor, std::string_view what, std::string_view contents) {
  while (!contents.empty()) {
    const ssize_t count =
        ::write(descriptor, contents.data(), std::min(contents.size(), kMaxTransferBytes));
    if (count < 0 && errno == EINTR) {
      ThrowIfStopRequested("what was being written is incomplete");
      continue;
    }
    if (count < 0 && errno == EAGAIN) {  // the other side made it so, and reads slowly
      pollfd room = {descriptor, POLLOUT, 0};
      static_cast<void>(::poll(&room, 1, kPollMilliseconds));
      continue;
    }
    if (count < 0) FailWrite(what, errno, static_cast<int64_t>(contents.size()));
    contents.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace narrow
