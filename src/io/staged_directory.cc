#include "io/staged_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/version.h"
#include "io/file.h"
#include "io/output_target.h"
#include "io/paths.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxAttempts = 100;

std::string Cause(int error) { return std::generic_category().message(error); }

void CheckTarget(const fs::path& path, StagedDirectory::Existing existing) {
  if (!path.has_filename()) {
    Fail(ErrorCode::kInvalidArgument, "{} cannot be an output directory", path.string());
  }
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error))) return;
  if (existing == StagedDirectory::Existing::kRefuse) {
    Fail(ErrorCode::kInvalidArgument,
         "{} exists already; choose another output directory or allow replacing it (--overwrite)",
         path.string());
  }
  CheckReplaceable(path);
}

fs::path AsidePath(const fs::path& staging) { return staging.string() + "-replaced"; }

// Text that no other run has.
std::string NewJob() {
  return fmt::format("{}-{}", std::chrono::system_clock::now().time_since_epoch().count(),
                     ::getpid());
}

std::string TextOf(const Json& note, const char* key) {
  const auto found = note.is_object() ? note.find(key) : note.end();
  return found != note.end() && found->is_string() ? found->get<std::string>() : "";
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

}  // namespace

fs::path StagedDirectory::StagingPath(const fs::path& final_path) {
  const fs::path resolved = ResolvePath(final_path);
  return resolved.parent_path() / fmt::format(".{}.partial", resolved.filename().string());
}

StagedDirectory::StagedDirectory(const fs::path& final_path, Existing existing)
    : StagedDirectory(final_path, existing, {}, Continuable::kRefuse) {
  StartOver();
}

StagedDirectory::StagedDirectory(const fs::path& final_path, Existing existing, fs::path state,
                                 Continuable others)
    : final_path_(ResolvePath(final_path)),
      staging_path_(StagingPath(final_path_)),
      state_(std::move(state)),
      existing_(existing) {
  CheckTarget(final_path_, existing_);
  made_parent_ = MakeDirectories(final_path_.parent_path());
  try {
    TakeStaging();
    Recover();
    CheckContinuable(others);
    CheckTarget(final_path_, existing_);
    WriteNote();
  } catch (...) {
    if (lock_ && !lock_->found()) RemoveLocked(staging_path_, *lock_);
    RemoveEmptyDirectories(final_path_.parent_path(), made_parent_);
    throw;
  }
}

void StagedDirectory::CheckFinalPath(const fs::path& final_path, Existing existing) {
  CheckTarget(ResolvePath(final_path), existing);
}

StagedDirectory::~StagedDirectory() {
  if (committed_) return;
  if (keep_) {
    lock_->Keep();
    return;
  }
  RemoveLocked(staging_path_, *lock_);
  RemoveEmptyDirectories(final_path_.parent_path(), made_parent_);
}

void StagedDirectory::TakeStaging() {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    std::error_code error;
    const bool made = fs::create_directory(staging_path_, error);
    if (error) {
      Fail(ErrorCode::kIo, "{} cannot be created: {}", staging_path_.string(), error.message());
    }
    if (!fs::is_directory(fs::symlink_status(staging_path_, error))) {
      Fail(ErrorCode::kInvalidArgument,
           "{}, where the output is collected, is not a directory; remove it or choose another "
           "output",
           staging_path_.string());
    }
    lock_ = DirectoryLock::Take(staging_path_, DirectoryLock::Missing::kMake);
    if (lock_) {
      if (!made) CheckOwnLeftover();
      return;
    }
    // Else it was put in place or removed in the meantime.
    if (fs::exists(staging_path_ / kLockName, error)) break;
  }
  Fail(ErrorCode::kInvalidArgument, "{} is {}; wait for it or stop it", staging_path_.string(),
       DescribeHolder(staging_path_));
}

// What was there before is ours by the lock file, or complete but for its name, or empty.
void StagedDirectory::CheckOwnLeftover() {
  job_ = TextOf(lock_->note(), "job");
  made_parent_ = TextOf(lock_->note(), "made_parent");
  if (lock_->found()) {
    RemoveTemporaryFiles(staging_path_);
    return;
  }
  try {
    if (const auto marker = CheckReplaceable(staging_path_)) job_ = marker->job;
  } catch (const Error& error) {
    const std::string reason = error.what();
    lock_->Remove();
    lock_.reset();
    Fail(ErrorCode::kInvalidArgument, "the output would be collected there, but {}", reason);
  }
}

// What a run left that died while it put an output in the place of another one.
void StagedDirectory::Recover() {
  const fs::path aside = AsidePath(staging_path_);
  std::error_code error;
  if (fs::exists(aside / kMarkerName, error)) {
    std::optional<DirectoryLock> lock = DirectoryLock::Take(aside, DirectoryLock::Missing::kMake);
    if (lock && !fs::exists(fs::symlink_status(final_path_, error))) {
      if (!Rename(aside, final_path_, 0)) FailRename(aside, final_path_);
    } else if (lock) {
      if (const auto marker = CheckReplaceable(aside)) RemoveMarked(aside, *marker);
    }
  }
  if (fs::exists(final_path_ / kMarkerName, error)) {
    if (auto lock = DirectoryLock::Take(final_path_, DirectoryLock::Missing::kLeave)) {
      lock->Remove();
    }
  }
}

void StagedDirectory::CheckContinuable(Continuable others) {
  const fs::path state = TextOf(lock_->note(), "state");
  if (state.empty() || state == state_) return;
  std::error_code error;
  if (others == Continuable::kRefuse && fs::exists(state, error)) {
    Fail(ErrorCode::kInvalidArgument,
         "{} is the unfinished output of a run that can be continued, with its state in {}: repeat "
         "its command (with that --work_dir), or start over with quantize --resume never",
         staging_path_.string(), state.string());
  }
  abandoned_state_ = state;
}

void StagedDirectory::StartOver() {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(staging_path_, error)) {
    if (entry.path().filename() == kLockName) continue;
    fs::remove_all(entry.path(), error);
    if (error) {
      Fail(ErrorCode::kIo, "{} cannot be removed: {}", entry.path().string(), error.message());
    }
  }
  job_ = NewJob();
  WriteNote();
}

void StagedDirectory::WriteNote() {
  lock_->Write({{"job", job_}, {"state", state_.string()}, {"made_parent", made_parent_.string()}});
}

void StagedDirectory::Commit(OutputMarker marker) {
  NARROW_CHECK(!committed_);
  marker.program = std::string("narrow ") + kVersion;
  marker.job = job_;
  try {
    WriteOutputMarker(staging_path_, std::move(marker));
    SyncTree(staging_path_);
  } catch (const fs::filesystem_error& error) {
    Fail(ErrorCode::kIo, "{}: cannot be made durable: {}", staging_path_.string(),
         error.code().message());
  }
  std::error_code error;
  if (existing_ == Existing::kReplace && fs::exists(fs::symlink_status(final_path_, error))) {
    Replace();
  } else {
    // EINVAL: a file system without the flag. A plain rename still refuses a directory with files.
    if (!Rename(staging_path_, final_path_, RENAME_NOREPLACE) &&
        (errno != EINVAL || !Rename(staging_path_, final_path_, 0))) {
      FailRename(staging_path_, final_path_);
    }
    PutInPlace();
  }
  SyncDirectory(final_path_.parent_path());
}

// The staging directory has the final name.
void StagedDirectory::PutInPlace() {
  committed_ = true;
  ::unlink((final_path_ / kLockName).c_str());
  lock_->Keep();
}

// Swaps the two atomically where the file system can, else in two steps, after the first of which
// Recover() would bring the old one back.
void StagedDirectory::Replace() {
  const std::optional<OutputMarker> old = CheckReplaceable(final_path_);
  if (!old) {
    ::unlink((final_path_ / kLockName).c_str());
    if (!Rename(staging_path_, final_path_, 0)) FailRename(staging_path_, final_path_);
    return PutInPlace();
  }
  // So that no other run takes the old one for a dead run's while it is removed.
  std::optional<DirectoryLock> lock =
      DirectoryLock::Take(final_path_, DirectoryLock::Missing::kMake);
  if (!lock) {
    Fail(ErrorCode::kIo, "{} is {}", final_path_.string(), DescribeHolder(final_path_));
  }
  fs::path aside = staging_path_;
  if (!Rename(staging_path_, final_path_, RENAME_EXCHANGE)) {
    aside = AsidePath(staging_path_);
    if (!Rename(final_path_, aside, 0)) FailRename(final_path_, aside);
    if (!Rename(staging_path_, final_path_, 0)) {
      const int error = errno;
      static_cast<void>(Rename(aside, final_path_, 0));
      errno = error;
      FailRename(staging_path_, final_path_);
    }
  }
  lock->Keep();  // RemoveMarked removes it, under the new name
  PutInPlace();
  try {
    RemoveMarked(aside, *old);
  } catch (const Error& error) {
    Fail(error.code(), "{} is complete, but of the directory it replaced {}", final_path_.string(),
         error.what());
  }
}

std::vector<NamedPath> OutputPaths(const std::string& name, const fs::path& final_path) {
  const fs::path staging = StagedDirectory::StagingPath(final_path);
  return {{name, final_path}, {name, staging}, {name, AsidePath(staging)}};
}

}  // namespace narrow
