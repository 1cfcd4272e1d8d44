// HTTP on libcurl: one request at a time over a connection that is kept, redirects followed by hand
// so that a token goes to the endpoint alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "hub/settings.h"

namespace narrow {

struct ByteRange {
  int64_t first = 0;
  int64_t last = 0;  // inclusive
};

// Header names are in lower case; of a name that comes twice the last value counts.
using HttpHeaders = std::map<std::string, std::string, std::less<>>;

struct HttpResponse {
  int status = 0;                // of the last hop
  std::string url;               // that answered
  HttpHeaders headers;           // of the last hop
  HttpHeaders endpoint_headers;  // of all hops that the endpoint itself answered
};

// How a request ended.
struct HttpOutcome {
  HttpResponse response;
  // The connection failed, or ended too early: a sentence. What may be tried again; other failures
  // are thrown.
  std::optional<std::string> broken;
};

// Takes a piece of the body of a 200 or 206; returns false to end the request there.
using BodySink = std::function<bool(const HttpResponse&, std::string_view)>;

// A connection, or several one after the other. Thread-compatible: one per thread.
class HttpSession {
 public:
  // `settings` outlives the session. Requests end with an Error when `*cancelled` becomes true.
  explicit HttpSession(const HubSettings& settings, const std::atomic<bool>* cancelled = nullptr);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  // GET, by http and https only, at most ten redirects. The token is sent where scheme, host and
  // port are the endpoint's. Bodies of other statuses than 200 and 206 are dropped. Proxies as
  // libcurl finds them in the environment. Throws: kIo for what another try will not mend (name of
  // a scheme, certificates, too many redirects, one from https to http, headers without end);
  // kInterrupted and its kin when a stop was requested; what the sink throws.
  HttpOutcome Get(const std::string& url, std::optional<ByteRange> range, const BodySink& sink);

 private:
  struct Transfer;
  struct Curl;
  HttpOutcome OneHop(const std::string& url, std::optional<ByteRange> range, const BodySink& sink,
                     HttpResponse& response);

  const HubSettings& settings_;
  const std::atomic<bool>* cancelled_;
  std::unique_ptr<Curl> curl_;
};

}  // namespace narrow
