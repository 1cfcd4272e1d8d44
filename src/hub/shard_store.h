// Weight files of the hub that are on this machine only while they are needed: fetched ahead of
// who reads them, within a limit of disk space.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hub/download.h"
#include "io/byte_source.h"
#include "io/directory_lock.h"
#include "io/file.h"

namespace narrow {

// A file of the hub whose first bytes (the header of a safetensors file) are in memory. What else
// is read comes over the network, each time.
class RemoteSource : public ByteSource {
 public:
  // Fetches the header by `session`. The path is that of the file in the snapshot's directory.
  // Throws: as RemoteFile::Read. `snapshot` outlives the object.
  RemoteSource(const HubSnapshot& snapshot, const HubFile& file, HttpSession& session);

  const std::filesystem::path& path() const override { return path_; }
  int64_t size() const override { return remote_.file().size; }
  // Taken from the digest: another file has another one.
  int64_t modified_ns() const override;
  void ReadAt(int64_t offset, std::span<std::byte> bytes) const override;
  void CheckUnchanged() const override {}  // a commit does not change

 protected:
  // What does not lie in the header.
  virtual void ReadBody(int64_t offset, std::span<std::byte> bytes) const;

 private:
  const HubSettings& settings_;
  std::filesystem::path path_;
  RemoteFile remote_;
  std::vector<std::byte> head_;
};

// What a store is to do.
struct ShardStoreOptions {
  std::filesystem::path directory;  // made with the first file that is fetched
  int64_t limit_bytes = 0;          // of all files in it together
  // Names of weight files in the order of the pass: those that its first step reads, then those of
  // its second one, and so on. A file may be in several steps.
  std::vector<std::vector<std::string>> steps;
};

// Thread-safe after construction. A thread of its own fetches whole files, so that each one's
// digest is checked: those of the step that is read, of the one before it, and of those after it,
// as many as fit. Other files go when room is needed. A directory that a dead run left is taken
// over.
class ShardStore {
 public:
  // Throws: kInvalidArgument naming the smallest limit, which two successive steps fit in; kIo when
  // the disk has less room; as DirectoryLock.
  ShardStore(std::shared_ptr<HubSnapshot> snapshot, ShardStoreOptions options);
  ~ShardStore();  // removes the directory, unless Keep() was called
  ShardStore(const ShardStore&) = delete;
  ShardStore& operator=(const ShardStore&) = delete;

  // A file of the listing; a local one, if the hub's cache has it. The store outlives it.
  std::unique_ptr<ByteSource> Open(const std::string& name);
  // What was fetched stays for a later run.
  void Keep() { keep_ = true; }

  int64_t fetched_bytes() const { return fetched_bytes_; }
  int64_t most_bytes() const { return most_bytes_; }  // in the directory at the same time

 private:
  friend class StoredShard;
  struct Shard;
  void Read(std::size_t shard, int64_t offset, std::span<std::byte> bytes);
  void Work();
  void FetchShard(std::unique_lock<std::mutex>& lock, Shard& shard);
  std::vector<std::size_t> Wanted() const;
  bool MakeRoom(const std::vector<std::size_t>& wanted, std::size_t next);
  void OpenDirectory();
  void TakeOver();
  int64_t Resident() const;
  void CheckLimit() const;

  std::shared_ptr<HubSnapshot> snapshot_;
  ShardStoreOptions options_;
  std::vector<Shard> shards_;                    // that steps read
  std::vector<std::vector<std::size_t>> steps_;  // places in shards_
  std::optional<DirectoryLock> lock_;            // of the directory, once it is there
  FilePipeline pipeline_;
  HttpSession session_;  // for headers
  bool keep_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t step_ = 0;             // that was read last
  std::vector<std::size_t> waited_;  // shards that someone waits for
  uint64_t clock_ = 0;
  bool ends_ = false;
  std::exception_ptr failure_;
  std::atomic<int64_t> fetched_bytes_ = 0;
  std::atomic<int64_t> most_bytes_ = 0;
  std::thread thread_;
};

}  // namespace narrow
