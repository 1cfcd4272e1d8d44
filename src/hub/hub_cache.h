// The cache on disk in the layout of huggingface_hub 2.4 (file_download.py), so that both programs
// find what the other one fetched:
//   models--org--name/blobs/BLOB            the bytes, named by digest
//   models--org--name/snapshots/COMMIT/PATH a relative link to a blob
//   models--org--name/refs/REVISION         the commit a branch or tag was last seen at
//   .locks/models--org--name/BLOB.lock      held (flock) by who fetches the blob
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "hub/repository.h"
#include "io/file.h"

namespace narrow {

// One repository's part of the cache. Thread-compatible.
class HubCache {
 public:
  HubCache(std::filesystem::path root, const RepositoryName& name);

  std::filesystem::path Blob(const HubFile& file) const;
  // What is there of a blob that is not complete: its first bytes.
  std::filesystem::path Partial(const HubFile& file) const;
  std::filesystem::path Snapshot(const std::string& commit) const;

  // The commit of the revision: itself, or what refs/ says; nothing when it was never fetched.
  std::optional<std::string> CommitOf(const std::string& revision) const;
  // Whether the snapshot's link leads to a file of the right size.
  bool Has(const std::string& commit, const HubFile& file) const;
  // Whether there is the blob. Throws: kCorruptInput when it has another size than the listing
  // says.
  bool HasBlob(const HubFile& file) const;

  // Makes the directories of a snapshot. Throws: kIo.
  void Prepare(const std::string& commit);
  // Throws: kIo.
  void WriteRef(const std::string& revision, const std::string& commit) const;
  void Link(const std::string& commit, const HubFile& file) const;

 private:
  friend class BlobLock;
  std::filesystem::path root_;
  std::string folder_;
};

// Held while a blob is fetched, in this program or in Python.
class BlobLock {
 public:
  // Waits for another holder, and says so. Throws: kIo; kInterrupted and its kin.
  BlobLock(const HubCache& cache, const HubFile& file, ProgressSink& progress);

 private:
  FileDescriptor file_;
};

}  // namespace narrow
