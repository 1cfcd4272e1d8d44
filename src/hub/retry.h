// When a request that failed is made again.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <string>

#include "hub/http.h"
#include "hub/settings.h"

namespace narrow {

// How long an answer asks to wait: Retry-After in seconds or as a date, else the time to the reset
// of an exhausted RateLimit. `now` is that of the system's clock.
std::optional<std::chrono::milliseconds> AskedWait(const HttpHeaders& headers,
                                                   std::chrono::system_clock::time_point now);

// Whether the same request may succeed later: 408, 429 and 5xx.
bool IsPassing(int status);

// Counts the attempts of one request and waits between them: twice as long each time, or as long as
// the answer asks for. Thread-compatible.
class Retry {
 public:
  // `settings` outlives the object; a wait ends early when `*cancelled` becomes true.
  explicit Retry(const HubSettings& settings, const std::atomic<bool>* cancelled = nullptr)
      : settings_(settings), cancelled_(cancelled) {}

  // Something new came: attempts count from the start.
  void Progress() { failures_ = 0; }
  // Waits before the next attempt. Throws: kIo with `why` when there were too many, or the answer
  // asks for more than ten minutes; kInterrupted and its kin.
  void Wait(const std::string& why, const HttpHeaders& headers = {});

 private:
  const HubSettings& settings_;
  const std::atomic<bool>* cancelled_;
  int failures_ = 0;
};

}  // namespace narrow
