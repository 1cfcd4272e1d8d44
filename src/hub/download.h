// Files of the hub into its cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "hub/file_pipeline.h"
#include "hub/hub_cache.h"
#include "hub/remote_file.h"
#include "hub/repository.h"
#include "hub/settings.h"

namespace narrow {

// A repository at one commit, and the way to fetch its files. Movable; thread-compatible.
class HubSnapshot {
 public:
  // `listing` is that of `name`.
  HubSnapshot(HubSettings settings, RepositoryName name, HubListing listing);

  const RepositoryName& name() const { return name_; }
  const HubListing& listing() const { return listing_; }
  const HubSettings& settings() const { return *settings_; }
  // Where its files are in the cache.
  std::filesystem::path directory() const { return cache_.Snapshot(listing_.commit); }

  // Fetches what is not there of `files` (of the listing), shows it as one phase, and makes their
  // links. A file has its name only when size and digest are right; what a broken fetch left is
  // continued. Throws: kCorruptInput when a digest is wrong twice; kIo (disk full included); as
  // RemoteFile.
  void Fetch(const std::vector<const HubFile*>& files, ProgressSink& progress);
  // Fetches a file from its start only until `enough`, which is handed its bytes in order, says so;
  // they stay in the cache, and the next call goes on from there. Returns where they are: the file
  // itself when it is complete, which alone has its digest checked. Throws: as Fetch; what `enough`
  // throws.
  std::filesystem::path FetchStart(const HubFile& file,
                                   const std::function<bool(std::span<const std::byte>)>& enough,
                                   ProgressSink& progress);
  // Nothing is fetched: whether all of them are there.
  bool Has(const std::vector<const HubFile*>& files) const;
  // The way to ranges of a file, without the cache.
  RemoteFile Open(const HubFile& file) const;

 private:
  void FetchOne(const HubFile& file, ProgressSink& progress);

  std::shared_ptr<const HubSettings> settings_;  // what was made from it refers to it
  RepositoryName name_;
  HubCache cache_;
  HubListing listing_;
  std::unique_ptr<FilePipeline> pipeline_;  // once something is fetched
};

// Writes a file of the hub to `path`, whose bytes, if it is there, are its first ones. Its bytes
// are right when the function returns. `progress` is told of bytes that are there (Skip) and that
// come (Advance). Throws: as HubSnapshot::Fetch.
void FetchToFile(const RemoteFile& remote, const std::filesystem::path& path,
                 FilePipeline& pipeline, ProgressSink& progress);

}  // namespace narrow
