#include "hub/shard_store.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/paths.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

}  // namespace

// A weight file and what is on this machine of it.
struct ShardStore::Shard {
  const HubFile* file = nullptr;
  bool cached = false;                 // in the hub's cache: not the store's business
  std::unique_ptr<InputFile> local{};  // once it is there
  int readers = 0;
  uint64_t used = 0;
};

// A file as the pass reads it.
class StoredShard final : public RemoteSource {
 public:
  StoredShard(ShardStore& store, std::size_t shard, const HubSnapshot& snapshot,
              const HubFile& file, HttpSession& session)
      : RemoteSource(snapshot, file, session), store_(store), shard_(shard) {}

 private:
  void ReadBody(int64_t offset, std::span<std::byte> bytes) const override {
    store_.Read(shard_, offset, bytes);
  }
  ShardStore& store_;
  std::size_t shard_;
};

ShardStore::ShardStore(std::shared_ptr<HubSnapshot> snapshot, ShardStoreOptions options)
    : snapshot_(std::move(snapshot)),
      options_(std::move(options)),
      pipeline_(snapshot_->settings()),
      session_(snapshot_->settings()) {
  std::map<std::string, std::size_t> places;
  for (const std::vector<std::string>& names : options_.steps) {
    std::vector<std::size_t>& step = steps_.emplace_back();
    for (const std::string& name : names) {
      const auto [place, added] = places.emplace(name, shards_.size());
      if (added) {
        const HubFile* file = snapshot_->listing().Find(name);
        NARROW_CHECK(file != nullptr);
        shards_.push_back({file, snapshot_->Has({file})});
      }
      step.push_back(place->second);
    }
  }
  CheckLimit();
  std::error_code error;
  if (fs::exists(options_.directory, error)) OpenDirectory();
  thread_ = std::thread([this] { Work(); });
}

ShardStore::~ShardStore() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  pipeline_.Cancel();
  changed_.notify_all();
  thread_.join();
  if (!lock_) return;
  if (keep_) {
    lock_->Keep();
  } else {
    shards_.clear();
    RemoveLocked(options_.directory, *lock_);
  }
}

void ShardStore::CheckLimit() const {
  int64_t smallest = 0;
  int64_t all = 0;
  for (const Shard& shard : shards_) all += shard.cached ? 0 : shard.file->size;
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    std::set<std::size_t> both(steps_[s].begin(), steps_[s].end());
    if (s + 1 < steps_.size()) both.insert(steps_[s + 1].begin(), steps_[s + 1].end());
    int64_t bytes = 0;
    for (const std::size_t shard : both) {
      bytes += shards_[shard].cached ? 0 : shards_[shard].file->size;
    }
    smallest = std::max(smallest, bytes);
  }
  if (options_.limit_bytes < smallest) {
    Fail(ErrorCode::kInvalidArgument,
         "--stream_disk {}: two successive parts of {} lie in files of {} bytes together; give "
         "that much",
         options_.limit_bytes, snapshot_->name().Shown(), smallest);
  }
  std::error_code error;
  if (fs::exists(options_.directory, error)) return;  // what is there was counted when it was made
  const int64_t free = FreeBytes(options_.directory);
  const int64_t needed = std::min(all, options_.limit_bytes);
  if (free >= needed) return;
  Fail(ErrorCode::kIo, "{}: disk full: --stream_disk takes {} bytes, {} are free",
       ExistingAncestor(options_.directory).string(), needed, free);
}

void ShardStore::OpenDirectory() {
  std::error_code error;
  const bool foreign = fs::exists(options_.directory, error) &&
                       !fs::is_empty(options_.directory, error) &&
                       !fs::exists(options_.directory / kLockName, error);
  if (foreign) {
    Fail(ErrorCode::kInvalidArgument,
         "{} is in the way, and no run left it there; remove it, or name another --work_dir",
         options_.directory.string());
  }
  MakeDirectories(options_.directory);
  lock_ = DirectoryLock::Take(options_.directory, DirectoryLock::Missing::kMake);
  if (!lock_) {
    Fail(ErrorCode::kInvalidArgument, "{} is {}", options_.directory.string(),
         DescribeHolder(options_.directory));
  }
  TakeOver();
}

// What a dead run fetched and checked: files that have their names. The start of one, which has
// not, is continued when that file is fetched.
void ShardStore::TakeOver() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(options_.directory, error)) {
    const std::string name = entry.path().filename().string();
    const auto shard =
        std::ranges::find_if(shards_, [&](const Shard& one) { return one.file->blob == name; });
    if (shard == shards_.end()) continue;
    auto local = std::make_unique<InputFile>(entry.path());
    if (local->size() == shard->file->size) shard->local = std::move(local);
  }
}

std::unique_ptr<ByteSource> ShardStore::Open(const std::string& name) {
  const auto shard =
      std::ranges::find_if(shards_, [&](const Shard& one) { return one.file->path == name; });
  if (shard == shards_.end()) {
    const HubFile* file = snapshot_->listing().Find(name);
    NARROW_CHECK(file != nullptr);
    return std::make_unique<RemoteSource>(*snapshot_, *file, session_);
  }
  if (shard->cached) return std::make_unique<InputFile>(snapshot_->directory() / name);
  return std::make_unique<StoredShard>(*this, static_cast<std::size_t>(shard - shards_.begin()),
                                       *snapshot_, *shard->file, session_);
}

void ShardStore::Read(std::size_t shard, int64_t offset, std::span<std::byte> bytes) {
  std::unique_lock lock(mutex_);
  Shard& one = shards_[shard];
  // The nearest step that the file is of, from the one read last on.
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const std::size_t step = (step_ + i) % steps_.size();
    if (std::ranges::count(steps_[step], shard) == 0) continue;
    step_ = step;
    break;
  }
  if (!one.local) {
    waited_.push_back(shard);
    changed_.notify_all();
    changed_.wait(lock, [&] { return one.local || failure_; });
    std::erase(waited_, shard);
    if (!one.local) std::rethrow_exception(failure_);
  }
  changed_.notify_all();
  one.used = ++clock_;
  ++one.readers;
  lock.unlock();
  std::exception_ptr thrown;
  try {
    one.local->ReadAt(offset, bytes);
  } catch (...) {
    thrown = std::current_exception();
  }
  lock.lock();
  --one.readers;
  changed_.notify_all();
  if (thrown) std::rethrow_exception(thrown);
}

std::vector<std::size_t> ShardStore::Wanted() const {
  std::vector<std::size_t> wanted;
  int64_t bytes = 0;
  const auto add = [&](std::size_t shard) {
    if (shards_[shard].cached || std::ranges::count(wanted, shard) > 0) return true;
    if (bytes + shards_[shard].file->size > options_.limit_bytes) return false;
    bytes += shards_[shard].file->size;
    wanted.push_back(shard);
    return true;
  };
  for (const std::size_t shard : waited_) add(shard);
  const auto add_step = [&](std::size_t step) { return std::ranges::all_of(steps_[step], add); };
  if (!add_step(step_)) return wanted;
  if (step_ > 0 && !add_step(step_ - 1)) return wanted;
  for (std::size_t step = step_ + 1; step < steps_.size() && add_step(step); ++step) {
  }
  return wanted;
}

int64_t ShardStore::Resident() const {
  int64_t bytes = 0;
  for (const Shard& shard : shards_) bytes += shard.local ? shard.file->size : 0;
  return bytes;
}

// Removes files that are not wanted, the one first that was not read for the longest time, until
// `next` fits. False when what is in use has to go first.
bool ShardStore::MakeRoom(const std::vector<std::size_t>& wanted, std::size_t next) {
  while (Resident() + shards_[next].file->size > options_.limit_bytes) {
    Shard* oldest = nullptr;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      Shard& shard = shards_[i];
      const bool free = shard.local && shard.readers == 0 && std::ranges::count(wanted, i) == 0;
      if (free && (oldest == nullptr || shard.used < oldest->used)) oldest = &shard;
    }
    if (oldest == nullptr) return false;
    std::error_code ignored;
    fs::remove(oldest->local->path(), ignored);
    oldest->local.reset();
  }
  return true;
}

void ShardStore::FetchShard(std::unique_lock<std::mutex>& lock, Shard& shard) {
  lock.unlock();
  if (!lock_) OpenDirectory();
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(options_.directory, error)) {
    const fs::path& other = entry.path();
    if (other.extension() == ".incomplete" && other.stem() != shard.file->blob) {
      std::error_code ignored;
      fs::remove(other, ignored);
    }
  }
  const fs::path path = options_.directory / shard.file->blob;
  const fs::path partial = fs::path(path) += ".incomplete";
  SilentProgress silent;
  FetchToFile(snapshot_->Open(*shard.file), partial, pipeline_, silent);
  fs::rename(partial, path, error);
  if (error) Fail(ErrorCode::kIo, "{}: cannot be renamed: {}", path.string(), error.message());
  auto local = std::make_unique<InputFile>(path);
  fetched_bytes_ += shard.file->size;
  lock.lock();
  shard.local = std::move(local);
}

void ShardStore::Work() {
  std::unique_lock lock(mutex_);
  try {
    while (!ends_) {
      const std::vector<std::size_t> wanted = Wanted();
      const auto next =
          std::ranges::find_if(wanted, [&](std::size_t shard) { return !shards_[shard].local; });
      // Nothing is fetched before the pass has read its first byte.
      if (clock_ + waited_.size() == 0 || next == wanted.end() || !MakeRoom(wanted, *next)) {
        changed_.wait(lock);
        continue;
      }
      most_bytes_ = std::max<int64_t>(most_bytes_, Resident() + shards_[*next].file->size);
      FetchShard(lock, shards_[*next]);
      changed_.notify_all();
    }
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    failure_ = std::current_exception();
    changed_.notify_all();
  }
}

}  // namespace narrow
