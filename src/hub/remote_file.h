// Ranges of one file of the hub, wherever its redirects lead.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

#include "hub/hub_client.h"
#include "hub/retry.h"

namespace narrow {

// Thread-safe: sessions of several threads read the same file.
class RemoteFile {
 public:
  // `settings` outlives the object. `commit` is the one that `file` was listed in.
  RemoteFile(const HubSettings& settings, RepositoryName name, std::string commit, HubFile file);

  const HubFile& file() const { return file_; }
  // "org/name: path", for messages.
  std::string Shown() const { return name_.Shown() + ": " + file_.path; }
  // The server was seen to answer a range with the whole file.
  bool ranges_ignored() const { return ranges_ignored_; }

  // Fills `bytes` from `offset`, trying again where that may help, and going on where a broken
  // connection left off. Where ranges are ignored, what comes before is read and dropped.
  // REQUIRES: the range lies in the file, and is not empty. Throws: kCorruptInput when the answer
  // is of another file than the listing's (size, commit, digest); as FailStatus; kIo.
  void Read(HttpSession& session, int64_t offset, std::span<std::byte> bytes,
            const std::atomic<bool>* cancelled = nullptr) const;
  // The rest of the file from `offset`, by one request, piece by piece, until the sink returns
  // false. Pieces come in order, each byte once. Throws: as Read; what the sink throws.
  void ReadRest(HttpSession& session, int64_t offset,
                const std::function<bool(std::span<const std::byte>)>& sink) const;

 private:
  // Takes what arrives from `position` on, which is moved after it; false: no more.
  using PieceSink = std::function<bool(std::string_view)>;
  void Transfer(HttpSession& session, int64_t& position, int64_t end, const PieceSink& sink,
                const std::atomic<bool>* cancelled) const;
  // The start of the body in the file. Throws: as Read.
  int64_t CheckAnswer(const HttpResponse& response, int64_t asked) const;
  std::string Address() const;
  void Remember(const HttpResponse& response) const;
  // Whether the address that a redirect led to is to be asked for again.
  bool Forget() const;

  const HubSettings& settings_;
  const RepositoryName name_;
  const std::string commit_;
  const HubFile file_;
  const std::string url_;
  mutable std::mutex mutex_;
  mutable std::string redirected_;  // where the last redirect led; empty: not known
  mutable std::atomic<bool> ranges_ignored_ = false;
};

}  // namespace narrow
