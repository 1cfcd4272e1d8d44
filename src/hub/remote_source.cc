#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "hub/shard_store.h"
#include "io/safetensors.h"

namespace narrow {
namespace {

constexpr int64_t kFirstBytes = 64 * 1024;  // most headers are shorter

}  // namespace

RemoteSource::RemoteSource(const HubSnapshot& snapshot, const HubFile& file, HttpSession& session)
    : settings_(snapshot.settings()),
      path_(snapshot.directory() / file.path),
      remote_(snapshot.Open(file)),
      head_(static_cast<std::size_t>(std::min(kFirstBytes, file.size))) {
  if (head_.empty()) return;
  remote_.Read(session, 0, head_);
  uint64_t length = 0;
  if (head_.size() < sizeof(length)) return;
  std::memcpy(&length, head_.data(), sizeof(length));
  // A length that is too large is for the parser to refuse.
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) return;
  const int64_t wanted = std::min(static_cast<int64_t>(length + sizeof(length)), file.size);
  const int64_t there = std::ssize(head_);
  head_.resize(static_cast<std::size_t>(wanted));
  if (wanted <= there) return;  // what came beside the header is not kept
  remote_.Read(session, there, std::span(head_).subspan(static_cast<std::size_t>(there)));
}

int64_t RemoteSource::modified_ns() const {
  int64_t number = 0;
  const std::string& blob = remote_.file().blob;
  std::from_chars(blob.data(), blob.data() + 15, number, 16);
  return number;
}

void RemoteSource::ReadAt(int64_t offset, std::span<std::byte> bytes) const {
  if (bytes.empty()) return;
  if (offset < 0 || offset > size() || std::ssize(bytes) > size() - offset) {
    Fail(ErrorCode::kCorruptInput, "{}: has {} bytes, {} were asked for at {}", path_.string(),
         size(), bytes.size(), offset);
  }
  if (offset + std::ssize(bytes) <= std::ssize(head_)) {
    std::copy_n(head_.begin() + offset, bytes.size(), bytes.begin());
  } else {
    ReadBody(offset, bytes);
  }
}

void RemoteSource::ReadBody(int64_t offset, std::span<std::byte> bytes) const {
  HttpSession session(settings_);
  remote_.Read(session, offset, bytes);
}

}  // namespace narrow
