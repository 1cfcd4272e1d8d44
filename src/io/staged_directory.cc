#include "io/staged_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/file.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxStagingNames = 100;

std::string Cause(int error) { return std::generic_category().message(error); }

// An absolute path without "." , ".." or a trailing slash.
fs::path Normalize(const fs::path& path) {
  fs::path normal = fs::absolute(path).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  return normal;
}

// Replacing removes what is there, so only what looks like our own kind of output qualifies.
void CheckReplaceable(const fs::path& path, fs::file_status status) {
  if (!fs::is_directory(status)) {
    Fail(ErrorCode::kInvalidArgument, "{} exists and is not a directory; choose another output",
         path.string());
  }
  std::error_code error;
  const bool empty = fs::is_empty(path, error);
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot be examined: {}", path.string(), error.message());
  }
  if (!empty && !fs::exists(path / "config.json", error)) {
    Fail(ErrorCode::kInvalidArgument,
         "{} holds files but no config.json, so it is not replaced; choose another output or "
         "remove it",
         path.string());
  }
}

void CheckTarget(const fs::path& path, StagedDirectory::Existing existing) {
  if (!path.has_filename()) {
    Fail(ErrorCode::kInvalidArgument, "{} cannot be an output directory", path.string());
  }
  const fs::path parent = path.parent_path();
  std::error_code error;
  if (!fs::is_directory(parent, error)) {
    Fail(ErrorCode::kIo, "{} cannot be created: {} is not an existing directory", path.string(),
         parent.string());
  }
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status)) return;
  if (existing == StagedDirectory::Existing::kRefuse) {
    Fail(ErrorCode::kInvalidArgument,
         "{} exists already; choose another output directory or allow replacing it (--overwrite)",
         path.string());
  }
  CheckReplaceable(path, status);
}

fs::path MakeStagingDirectory(const fs::path& final_path) {
  const std::string base =
      fmt::format(".{}.partial-{}", final_path.filename().string(), ::getpid());
  for (int attempt = 0; attempt < kMaxStagingNames; ++attempt) {
    fs::path path =
        final_path.parent_path() / (attempt == 0 ? base : fmt::format("{}-{}", base, attempt));
    std::error_code error;
    if (fs::create_directory(path, error)) return path;
    if (error) {
      Fail(ErrorCode::kIo, "{} cannot be created: {}", path.string(), error.message());
    }
  }
  Fail(ErrorCode::kIo, "{}: too many unfinished outputs named {}* beside it; remove them",
       final_path.string(), base);
}

void SyncFile(const fs::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() || ::fsync(file.get()) != 0) {
    Fail(ErrorCode::kIo, "{}: writing to stable storage failed: {}", path.string(), Cause(errno));
  }
}

void SyncTree(const fs::path& root) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) SyncDirectory(entry.path());
    if (entry.is_regular_file()) SyncFile(entry.path());
  }
  SyncDirectory(root);
}

bool Rename(const fs::path& from, const fs::path& to, unsigned flags) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0;
}

[[noreturn]] void FailRename(const fs::path& from, const fs::path& to) {
  const int error = errno;
  Fail(ErrorCode::kIo, "{} cannot be renamed to {}: {}", from.string(), to.string(), Cause(error));
}

// Swaps the two atomically where the file system can, else in two steps. Leaves the old directory
// at the returned path.
fs::path PutInPlaceOf(const fs::path& staging, const fs::path& final_path) {
  if (Rename(staging, final_path, RENAME_EXCHANGE)) return staging;
  fs::path aside = staging.string() + "-replaced";
  if (!Rename(final_path, aside, 0)) FailRename(final_path, aside);
  if (!Rename(staging, final_path, 0)) {
    const int error = errno;
    static_cast<void>(Rename(aside, final_path, 0));
    errno = error;
    FailRename(staging, final_path);
  }
  return aside;
}

}  // namespace

StagedDirectory::StagedDirectory(const fs::path& final_path, Existing existing)
    : final_path_(Normalize(final_path)), replace_(existing == Existing::kReplace) {
  CheckTarget(final_path_, existing);
  staging_path_ = MakeStagingDirectory(final_path_);
}

StagedDirectory::StagedDirectory(const fs::path& final_path, Existing existing,
                                 fs::path staging_path)
    : final_path_(Normalize(final_path)),
      staging_path_(std::move(staging_path)),
      replace_(existing == Existing::kReplace) {
  CheckTarget(final_path_, existing);
  std::error_code error;
  fs::create_directory(staging_path_, error);
  if (error) {
    Fail(ErrorCode::kIo, "{} cannot be created: {}", staging_path_.string(), error.message());
  }
  RemoveTemporaryFiles(staging_path_);
}

void StagedDirectory::CheckFinalPath(const fs::path& final_path, Existing existing) {
  CheckTarget(Normalize(final_path), existing);
}

StagedDirectory::~StagedDirectory() {
  if (committed_ || keep_) return;
  std::error_code ignored;  // nothing sensible can be done about it here
  fs::remove_all(staging_path_, ignored);
}

void StagedDirectory::Commit() {
  NARROW_CHECK(!committed_);
  try {
    SyncTree(staging_path_);
  } catch (const fs::filesystem_error& error) {
    Fail(ErrorCode::kIo, "{}: cannot be made durable: {}", staging_path_.string(),
         error.code().message());
  }
  fs::path old;
  std::error_code error;
  if (const fs::file_status status = fs::symlink_status(final_path_, error);
      replace_ && fs::exists(status)) {
    CheckReplaceable(final_path_, status);
    old = PutInPlaceOf(staging_path_, final_path_);
  } else if (!Rename(staging_path_, final_path_, RENAME_NOREPLACE)) {
    // EINVAL: a file system without the flag. A plain rename still refuses a directory with files.
    if (errno != EINVAL || !Rename(staging_path_, final_path_, 0)) {
      FailRename(staging_path_, final_path_);
    }
  }
  committed_ = true;
  SyncDirectory(final_path_.parent_path());
  error.clear();
  if (!old.empty()) fs::remove_all(old, error);
  if (error) {
    Fail(ErrorCode::kIo,
         "{} is complete, but the directory it replaced cannot be removed from {}: {}",
         final_path_.string(), old.string(), error.message());
  }
}

}  // namespace narrow
