#include "hub/remote_file.h"

#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "base/error.h"
#include "hub/url.h"
#include "io/json.h"

namespace narrow {
namespace {

// "bytes FIRST-LAST/TOTAL" or "bytes FIRST-LAST/*" (RFC 9110, 14.4).
struct ContentRange {
  int64_t first = 0;
  std::optional<int64_t> total;
};

std::optional<ContentRange> ParseContentRange(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  ContentRange range;
  int64_t last = 0;
  const char* end = text.data() + text.size();
  auto result = std::from_chars(text.data(), end, range.first);
  if (result.ec != std::errc() || result.ptr == end || *result.ptr != '-') return std::nullopt;
  result = std::from_chars(result.ptr + 1, end, last);
  if (result.ec != std::errc() || result.ptr == end || *result.ptr != '/') return std::nullopt;
  if (std::string_view(result.ptr + 1, end) == "*") return range;
  int64_t total = 0;
  result = std::from_chars(result.ptr + 1, end, total);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  range.total = total;
  return range;
}

// The value of an etag without W/ and quotation marks.
std::string_view PlainEtag(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') {
    etag = etag.substr(1, etag.size() - 2);
  }
  return etag;
}

const std::string* Find(const HttpHeaders& headers, std::string_view name) {
  const auto found = headers.find(name);
  return found == headers.end() ? nullptr : &found->second;
}

}  // namespace

RemoteFile::RemoteFile(const HubSettings& settings, RepositoryName name, std::string commit,
                       HubFile file)
    : settings_(settings),
      name_(std::move(name)),
      commit_(std::move(commit)),
      file_(std::move(file)),
      url_(FileUrl(settings, name_, commit_, file_.path)) {}

std::string RemoteFile::Address() const {
  const std::lock_guard lock(mutex_);
  return redirected_.empty() ? url_ : redirected_;
}

void RemoteFile::Remember(const HttpResponse& response) const {
  const std::lock_guard lock(mutex_);
  redirected_ = response.url == url_ ? "" : response.url;
}

bool RemoteFile::Forget() const {
  const std::lock_guard lock(mutex_);
  return !std::exchange(redirected_, "").empty();
}

int64_t RemoteFile::CheckAnswer(const HttpResponse& response, int64_t asked) const {
  const std::string* commit = Find(response.endpoint_headers, "x-repo-commit");
  if (commit != nullptr && *commit != commit_) {
    Fail(ErrorCode::kCorruptInput, "{}: asked for commit {}, the hub answered with {}; try again",
         Shown(), commit_, Quoted(*commit));
  }
  const std::string* etag = Find(response.endpoint_headers, "x-linked-etag");
  if (etag != nullptr && PlainEtag(*etag) != file_.blob) {
    Fail(ErrorCode::kCorruptInput, "{}: the list of files says {}, the hub answered with {}",
         Shown(), file_.blob, Quoted(PlainEtag(*etag)));
  }
  std::optional<int64_t> size;
  int64_t first = 0;
  if (response.status == 206) {
    const std::string* header = Find(response.headers, "content-range");
    const auto range = header == nullptr ? std::nullopt : ParseContentRange(*header);
    if (!range || range->first != asked) {
      Fail(ErrorCode::kCorruptInput, "{}: asked for bytes from {} on, the answer says {}", Shown(),
           asked, header == nullptr ? "nothing" : Quoted(*header));
    }
    first = range->first;
    size = range->total;
  } else if (const std::string* length = Find(response.headers, "content-length")) {
    int64_t bytes = -1;
    std::from_chars(length->data(), length->data() + length->size(), bytes);
    size = bytes;
  }
  if (size && *size != file_.size) {
    Fail(ErrorCode::kCorruptInput, "{}: the list of files says {} bytes, the answer has {}",
         Shown(), file_.size, *size);
  }
  return first;
}

void RemoteFile::Transfer(HttpSession& session, int64_t& position, int64_t end,
                          const PieceSink& sink, const std::atomic<bool>* cancelled) const {
  Retry retry(settings_, cancelled);
  while (position < end) {
    const int64_t asked = position;
    const bool whole = end == file_.size && asked == 0;
    std::optional<int64_t> at;  // of the next piece in the file; nothing: none came yet
    const BodySink take = [&](const HttpResponse& response, std::string_view piece) {
      if (!at) {
        at = CheckAnswer(response, asked);
        if (response.status == 200 && !whole) ranges_ignored_ = true;
        Remember(response);
      }
      const int64_t skipped = std::min<int64_t>(std::max<int64_t>(position - *at, 0),
                                                static_cast<int64_t>(piece.size()));
      *at += static_cast<int64_t>(piece.size());
      piece.remove_prefix(static_cast<std::size_t>(skipped));
      piece = piece.substr(0, static_cast<std::size_t>(end - position));
      if (piece.empty()) return true;
      const bool more = sink(piece);
      position = more ? position + static_cast<int64_t>(piece.size()) : end;
      retry.Progress();
      return position < end;
    };
    const auto range = whole ? std::nullopt : std::optional(ByteRange{asked, end - 1});
    const HttpOutcome outcome = session.Get(Address(), range, take);
    const int status = outcome.response.status;
    if (position >= end) return;
    if (outcome.broken) {
      retry.Wait(*outcome.broken);
    } else if (status == 200 || status == 206) {
      retry.Wait(fmt::format("{}: the answer ended after {} of {} bytes", Shown(), position - asked,
                             end - asked));
    } else if (IsPassing(status)) {
      retry.Wait(fmt::format("{}: the hub answered with status {}", Shown(), status),
                 outcome.response.headers);
    } else if (status == 416) {
      Fail(ErrorCode::kCorruptInput,
           "{}: the list of files says {} bytes, but there are none at {}", Shown(), file_.size,
           asked);
    } else if (!Forget()) {  // else the signature of the redirect may be too old: ask for a new one
      FailStatus(settings_, name_, outcome.response, "file " + Quoted(file_.path));
    }
  }
}

void RemoteFile::Read(HttpSession& session, int64_t offset, std::span<std::byte> bytes,
                      const std::atomic<bool>* cancelled) const {
  NARROW_CHECK(offset >= 0 && !bytes.empty() &&
               static_cast<int64_t>(bytes.size()) <= file_.size - offset);
  int64_t position = offset;
  Transfer(
      session, position, offset + static_cast<int64_t>(bytes.size()),
      [&](std::string_view piece) {
        std::memcpy(bytes.data() + (position - offset), piece.data(), piece.size());
        return true;
      },
      cancelled);
}

void RemoteFile::ReadRest(HttpSession& session, int64_t offset,
                          const std::function<bool(std::span<const std::byte>)>& sink) const {
  int64_t position = offset;
  Transfer(
      session, position, file_.size,
      [&](std::string_view piece) { return sink(std::as_bytes(std::span(piece))); }, nullptr);
}

}  // namespace narrow
