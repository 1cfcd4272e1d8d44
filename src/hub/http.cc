#include "hub/http.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/version.h"
#include "hub/url.h"

namespace narrow {
namespace {

constexpr int kMaxRedirects = 10;
constexpr std::size_t kMaxHeaderBytes = 256 * 1024;
constexpr std::size_t kMaxDroppedBytes = 64 * 1024;  // of a body that no one wants
constexpr long kConnectSeconds = 20;
constexpr long kReceiveBytes = 256 * 1024;

// Where distributions keep their certificates: Debian, Fedora, Alpine. Empty: as libcurl was built.
std::string CertificateFile() {
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/cert.pem"}) {
    if (::access(path, R_OK) == 0) return path;
  }
  return "";
}

// What goes away by itself; the rest is thrown.
bool MayBeTriedAgain(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
      return true;
    default:
      return false;
  }
}

std::string_view TrimmedLine(std::string_view line) {
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())) != 0) {
    line.remove_suffix(1);
  }
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.front())) != 0) {
    line.remove_prefix(1);
  }
  return line;
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool HasBody(int status) { return status == 200 || status == 206; }

template <typename Value>
void Set(CURL* handle, CURLoption option, Value value) {
  if (curl_easy_setopt(handle, option, value) != CURLE_OK) {
    Fail(ErrorCode::kInternal, "libcurl does not take option {}; is it older than 7.85?",
         static_cast<int>(option));
  }
}

}  // namespace

struct HttpSession::Curl {
  CURL* easy = nullptr;
  Curl() {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
    easy = curl_easy_init();
    if (easy == nullptr) throw std::bad_alloc();
  }
  ~Curl() { curl_easy_cleanup(easy); }
  Curl(const Curl&) = delete;
  Curl& operator=(const Curl&) = delete;
};

// One hop as libcurl's callbacks see it.
struct HttpSession::Transfer {
  HttpResponse& response;
  const BodySink& sink;
  const std::atomic<bool>* cancelled;
  std::size_t header_bytes = 0;
  std::size_t dropped_bytes = 0;
  bool ended_by_sink = false;
  std::exception_ptr thrown = nullptr;

  // No exception passes through C.
  template <typename Action>
  bool Guarded(const Action& action) {
    try {
      return action();
    } catch (...) {
      thrown = std::current_exception();
      return false;
    }
  }

  bool AddHeader(std::string_view line) {
    header_bytes += line.size();
    if (header_bytes > kMaxHeaderBytes) {
      Fail(ErrorCode::kIo, "{}: the headers of the answer have no end", ShownUrl(response.url));
    }
    if (line.starts_with("HTTP/")) {  // of an interim answer, or the final one
      response.headers.clear();
      return true;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    std::string name(TrimmedLine(line.substr(0, colon)));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    response.headers[std::move(name)] = TrimmedLine(line.substr(colon + 1));
    return true;
  }

  bool AddBody(CURL* easy, std::string_view bytes) {
    if (response.status == 0) {
      long status = 0;
      curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
      response.status = static_cast<int>(status);
    }
    if (HasBody(response.status)) {
      ended_by_sink = !sink(response, bytes);
      return !ended_by_sink;
    }
    dropped_bytes += bytes.size();
    ended_by_sink = dropped_bytes > kMaxDroppedBytes;
    return !ended_by_sink;
  }

  bool Continues() const {
    ThrowIfStopRequested("what was downloaded is kept: the same command continues");
    return cancelled == nullptr || !*cancelled;
  }

  struct Pointers {
    Transfer* transfer;
    CURL* easy;
  };
  static std::size_t OnHeader(char* data, std::size_t size, std::size_t count, void* to) {
    auto* self = static_cast<Pointers*>(to)->transfer;
    const std::size_t bytes = size * count;
    return self->Guarded([&] { return self->AddHeader({data, bytes}); }) ? bytes : bytes + 1;
  }
  static std::size_t OnBody(char* data, std::size_t size, std::size_t count, void* to) {
    auto* pointers = static_cast<Pointers*>(to);
    const std::size_t bytes = size * count;
    const bool taken = pointers->transfer->Guarded([&] {
      return pointers->transfer->AddBody(pointers->easy, {data, bytes});
    });
    return taken ? bytes : bytes + 1;
  }
  static int OnProgress(void* to, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto* self = static_cast<Pointers*>(to)->transfer;
    return self->Guarded([&] { return self->Continues(); }) ? 0 : 1;
  }
};

HttpSession::HttpSession(const HubSettings& settings, const std::atomic<bool>* cancelled)
    : settings_(settings), cancelled_(cancelled), curl_(std::make_unique<Curl>()) {
  CURL* easy = curl_->easy;
  Set(easy, CURLOPT_NOSIGNAL, 1L);
  Set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  Set(easy, CURLOPT_FOLLOWLOCATION, 0L);
  Set(easy, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  Set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  Set(easy, CURLOPT_LOW_SPEED_TIME, std::max<long>(1, settings.stall.count() / 1000));
  Set(easy, CURLOPT_BUFFERSIZE, kReceiveBytes);
  Set(easy, CURLOPT_USERAGENT, (std::string("narrow/") + kVersion).c_str());
  Set(easy, CURLOPT_HEADEROPT, static_cast<long>(CURLHEADER_SEPARATE));  // none to a proxy
  Set(easy, CURLOPT_HTTP09_ALLOWED, 0L);
  Set(easy, CURLOPT_NOPROGRESS, 0L);
  Set(easy, CURLOPT_HEADERFUNCTION, &Transfer::OnHeader);
  Set(easy, CURLOPT_WRITEFUNCTION, &Transfer::OnBody);
  Set(easy, CURLOPT_XFERINFOFUNCTION, &Transfer::OnProgress);
  const std::string certificates = CertificateFile();
  if (!certificates.empty()) Set(easy, CURLOPT_CAINFO, certificates.c_str());
}

HttpSession::~HttpSession() = default;

HttpOutcome HttpSession::OneHop(const std::string& url, std::optional<ByteRange> range,
                                const BodySink& sink, HttpResponse& response) {
  response.status = 0;
  response.url = url;
  response.headers.clear();
  CURL* easy = curl_->easy;
  Transfer transfer = {response, sink, cancelled_};
  Transfer::Pointers pointers = {&transfer, easy};
  Set(easy, CURLOPT_HEADERDATA, &pointers);
  Set(easy, CURLOPT_WRITEDATA, &pointers);
  Set(easy, CURLOPT_XFERINFODATA, &pointers);
  Set(easy, CURLOPT_URL, url.c_str());
  const std::string bytes = range ? fmt::format("{}-{}", range->first, range->last) : "";
  Set(easy, CURLOPT_RANGE, range ? bytes.c_str() : nullptr);
  const bool own = OriginOf(url, "the hub's answer") == OriginOf(settings_.endpoint, "endpoint");
  curl_slist* list = curl_slist_append(nullptr, "Accept-Encoding: identity");
  if (own && settings_.token) {
    list = curl_slist_append(list, ("Authorization: Bearer " + *settings_.token).c_str());
  }
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list,
                                                                            &curl_slist_free_all);
  Set(easy, CURLOPT_HTTPHEADER, headers.get());
  const CURLcode code = curl_easy_perform(easy);
  if (transfer.thrown) std::rethrow_exception(transfer.thrown);
  if (cancelled_ != nullptr && *cancelled_) Fail(ErrorCode::kIo, "the download was given up");
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  if (own) {
    for (const auto& [name, value] : response.headers) response.endpoint_headers[name] = value;
  }
  if (code == CURLE_OK || transfer.ended_by_sink) return {};
  const std::string message = fmt::format("{}: {}", ShownUrl(url), curl_easy_strerror(code));
  if (!MayBeTriedAgain(code)) Fail(ErrorCode::kIo, "{}", message);
  return {{}, message};
}

HttpOutcome HttpSession::Get(const std::string& url, std::optional<ByteRange> range,
                             const BodySink& sink) {
  HttpResponse response;
  std::string next = url;
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    HttpOutcome outcome = OneHop(next, range, sink, response);
    const auto location = response.headers.find("location");
    if (outcome.broken || !IsRedirect(response.status) || location == response.headers.end()) {
      outcome.response = std::move(response);
      return outcome;
    }
    const std::string from = next;
    next = ResolveUrl(from, location->second);
    if (next.empty() || !(next.starts_with("http://") || next.starts_with("https://")) ||
        (from.starts_with("https:") && !next.starts_with("https:"))) {
      Fail(ErrorCode::kIo, "{} leads to an address that is not followed: {}", ShownUrl(from),
           next.empty() ? "none" : ShownUrl(next));
    }
  }
  Fail(ErrorCode::kIo, "{}: more than {} redirects", ShownUrl(url), kMaxRedirects);
}

}  // namespace narrow
