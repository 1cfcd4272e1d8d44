#include "hub/retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"

namespace narrow {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongestWait{30'000};
constexpr milliseconds kLongestAsked{600'000};
constexpr milliseconds kStep{20};

std::optional<int64_t> Number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data() || value < 0) return std::nullopt;
  return std::min<int64_t>(value, 1'000'000'000);
}

}  // namespace

std::optional<milliseconds> AskedWait(const HttpHeaders& headers,
                                      std::chrono::system_clock::time_point now) {
  if (const auto found = headers.find("retry-after"); found != headers.end()) {
    const std::string& text = found->second;
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
    if (digits) return std::chrono::seconds(Number(text).value_or(1'000'000'000));
    const time_t when = curl_getdate(text.c_str(), nullptr);
    if (when != -1) {
      const auto wait = std::chrono::duration_cast<milliseconds>(
          std::chrono::system_clock::from_time_t(when) - now);
      return std::max(wait, milliseconds(0));
    }
  }
  if (const auto found = headers.find("ratelimit"); found != headers.end()) {
    const std::string_view text = found->second;  // "api";r=0;t=55
    const std::size_t reset = text.find(";t=");
    if (text.find(";r=0") != text.npos && reset != text.npos) {
      if (const auto seconds = Number(text.substr(reset + 3)))
        return std::chrono::seconds(*seconds);
    }
  }
  return std::nullopt;
}

bool IsPassing(int status) { return status == 408 || status == 429 || status / 100 == 5; }

void Retry::Wait(const std::string& why, const HttpHeaders& headers) {
  if (++failures_ >= settings_.attempts) {
    Fail(ErrorCode::kIo, "{}; gave up after {} attempts: try again later", why, failures_);
  }
  milliseconds wait =
      std::min(settings_.first_wait * (1 << std::min(failures_ - 1, 10)), kLongestWait);
  if (const auto asked = AskedWait(headers, std::chrono::system_clock::now())) {
    if (*asked > kLongestAsked) {
      Fail(ErrorCode::kIo, "{}; it asks to wait {} s: try again then", why,
           std::chrono::duration_cast<std::chrono::seconds>(*asked).count());
    }
    wait = *asked;
  }
  const auto end = std::chrono::steady_clock::now() + wait;
  while (std::chrono::steady_clock::now() < end) {
    ThrowIfStopRequested("what was downloaded is kept: the same command continues");
    if (cancelled_ != nullptr && *cancelled_) Fail(ErrorCode::kIo, "the download was given up");
    std::this_thread::sleep_for(std::min(wait, kStep));
  }
}

}  // namespace narrow
