// URLs as the hub's interface needs them, taken apart by libcurl.
#pragma once

#include <string>
#include <string_view>

namespace narrow {

// What decides whether a token may be sent: scheme, host and port.
struct Origin {
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case
  std::string port;    // digits; the scheme's own where the URL has none
  bool operator==(const Origin&) const = default;
};

// Throws: kInvalidArgument, naming `what` and not the URL's secrets, for a URL that is none, holds
// a user name, or is neither http nor https.
Origin OriginOf(const std::string& url, std::string_view what);

// `reference` as seen from `base` (RFC 3986): what a Location header means. Empty when it is no
// URL.
std::string ResolveUrl(const std::string& base, const std::string& reference);

// Every byte but letters, digits and "-._~" as %XX; '/' stays in a path.
std::string EscapeSegment(std::string_view text);
std::string EscapePath(std::string_view path);

// "https://host/path" for messages: without a query, which may hold a signature, and without names
// and passwords; one line.
std::string ShownUrl(const std::string& url);

}  // namespace narrow
