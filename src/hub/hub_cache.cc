#include "hub/hub_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This directory is a cache of files of the Hugging Face hub.\n";
constexpr std::chrono::milliseconds kPoll{50};
constexpr mode_t kLockMode = 0664;  // members of a group wait for each other

void MakeParents(const fs::path& file) {
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  if (error) {
    Fail(ErrorCode::kIo, "{}: the directory cannot be made: {}", file.parent_path().string(),
         error.message());
  }
}

}  // namespace

HubCache::HubCache(fs::path root, const RepositoryName& name)
    : root_(std::move(root)), folder_(name.CacheFolder()) {}

fs::path HubCache::Blob(const HubFile& file) const { return root_ / folder_ / "blobs" / file.blob; }

fs::path HubCache::Partial(const HubFile& file) const {
  return root_ / folder_ / "blobs" / (file.blob + ".incomplete");
}

fs::path HubCache::Snapshot(const std::string& commit) const {
  return root_ / folder_ / "snapshots" / commit;
}

std::optional<std::string> HubCache::CommitOf(const std::string& revision) const {
  if (IsCommit(revision)) return revision;
  const fs::path path = root_ / folder_ / "refs" / revision;
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  std::string commit = ReadWholeFile(path, 4096);
  commit.erase(commit.find_last_not_of(" \t\r\n") + 1);
  if (!IsCommit(commit)) {
    Fail(ErrorCode::kCorruptInput, "{}: expected a commit; remove the file", path.string());
  }
  return commit;
}

bool HubCache::Has(const std::string& commit, const HubFile& file) const {
  std::error_code error;
  const fs::path path = Snapshot(commit) / file.path;
  const auto size = fs::file_size(path, error);
  return !error && static_cast<int64_t>(size) == file.size;
}

bool HubCache::HasBlob(const HubFile& file) const {
  std::error_code error;
  const auto size = fs::file_size(Blob(file), error);
  if (error) return false;
  if (static_cast<int64_t>(size) != file.size) {
    Fail(ErrorCode::kCorruptInput,
         "{}: has {} bytes, the hub's {} has {}: the file was changed or cut; remove it and try "
         "again",
         Blob(file).string(), size, file.path, file.size);
  }
  return true;
}

void HubCache::Prepare(const std::string& commit) {
  MakeParents(root_ / folder_ / "blobs" / "x");
  MakeParents(Snapshot(commit) / "x");
  std::error_code error;
  const fs::path tag = root_ / "CACHEDIR.TAG";
  if (!fs::exists(tag, error)) WriteFileAtomically(tag, kTag);
}

void HubCache::WriteRef(const std::string& revision, const std::string& commit) const {
  if (revision == commit) return;
  const fs::path path = root_ / folder_ / "refs" / revision;
  std::error_code error;
  if (fs::is_regular_file(path, error) && ReadWholeFile(path, 4096) == commit) return;
  MakeParents(path);
  WriteFileAtomically(path, commit);
}

void HubCache::Link(const std::string& commit, const HubFile& file) const {
  const fs::path link = Snapshot(commit) / file.path;
  const fs::path target = Blob(file).lexically_relative(link.parent_path());
  MakeParents(link);
  // By way of another name, so that a link that is there is replaced in one step.
  const fs::path temporary = fs::path(link) += fmt::format(".link-{}", ::getpid());
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (error) {
    Fail(ErrorCode::kIo, "{}: the link to {} cannot be made: {}", link.string(), target.string(),
         error.message());
  }
}

BlobLock::BlobLock(const HubCache& cache, const HubFile& file, ProgressSink& progress) {
  const fs::path path = cache.root_ / ".locks" / cache.folder_ / (file.blob + ".lock");
  MakeParents(path);
  file_ = FileDescriptor(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kLockMode));
  if (!file_.valid()) {
    Fail(ErrorCode::kIo, "{}: cannot be opened: {}", path.string(),
         std::generic_category().message(errno));
  }
  bool said = false;
  while (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    // File systems without locks: what is fetched is checked before it takes its name.
    if (errno != EWOULDBLOCK && errno != EINTR) return;
    if (!std::exchange(said, true)) {
      progress.Info(fmt::format("Waiting for another program that fetches {}", file.path));
    }
    ThrowIfStopRequested("what was downloaded is kept: the same command continues");
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace narrow
