#include "hub/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

Handle Parse(const std::string& url) {
  Handle handle(curl_url(), &curl_url_cleanup);
  if (handle == nullptr) throw std::bad_alloc();
  if (curl_url_set(handle.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) handle.reset();
  return handle;
}

// Empty when the URL has no such part.
std::string Part(const Handle& handle, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(handle.get(), part, &text, flags) != CURLUE_OK) return "";
  std::string copy = text;
  curl_free(text);
  return copy;
}

std::string Escape(std::string_view text, std::string_view kept) {
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte < 0x80 && (std::isalnum(byte) != 0 || kept.find(c) != kept.npos);
    escaped += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return escaped;
}

}  // namespace

Origin OriginOf(const std::string& url, std::string_view what) {
  const Handle handle = Parse(url);
  if (handle == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "{}: {} is not a URL", what, Quoted(ShownUrl(url)));
  }
  Origin origin = {Part(handle, CURLUPART_SCHEME), Part(handle, CURLUPART_HOST),
                   Part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  if (origin.scheme != "http" && origin.scheme != "https") {
    Fail(ErrorCode::kInvalidArgument, "{}: expected an http or https address, found {}", what,
         Quoted(ShownUrl(url)));
  }
  if (!Part(handle, CURLUPART_USER).empty() || !Part(handle, CURLUPART_PASSWORD).empty()) {
    Fail(ErrorCode::kInvalidArgument, "{}: an address with a user name is not supported: {}", what,
         Quoted(ShownUrl(url)));
  }
  std::transform(origin.host.begin(), origin.host.end(), origin.host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return origin;
}

std::string ResolveUrl(const std::string& base, const std::string& reference) {
  const Handle handle = Parse(base);
  if (handle == nullptr ||
      curl_url_set(handle.get(), CURLUPART_URL, reference.c_str(), 0) != CURLUE_OK) {
    return "";
  }
  return Part(handle, CURLUPART_URL);
}

std::string EscapeSegment(std::string_view text) { return Escape(text, "-._~"); }

std::string EscapePath(std::string_view path) { return Escape(path, "-._~/"); }

std::string ShownUrl(const std::string& url) {
  const Handle handle = Parse(url);
  if (handle == nullptr) return "an address that cannot be read";
  for (const CURLUPart part :
       {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT}) {
    curl_url_set(handle.get(), part, nullptr, 0);
  }
  std::string shown = Part(handle, CURLUPART_URL);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < 0x20 || c == 0x7F; }, '?');
  return shown;
}

}  // namespace narrow
