#include "base/interrupt.h"

#include <atomic>
#include <csignal>

#include "base/error.h"

namespace narrow {
namespace {

std::atomic<int> stop_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);

}  // namespace

void RequestStop(int signal_number) noexcept { stop_signal = signal_number; }

void ThrowIfStopRequested(const char* how_to_continue) {
  const int signal_number = stop_signal;
  if (signal_number == 0) return;
  if (signal_number == SIGHUP) Fail(ErrorCode::kHungUp, "stopped by SIGHUP; {}", how_to_continue);
  Fail(signal_number == SIGINT ? ErrorCode::kInterrupted : ErrorCode::kTerminated,
       "stopped by {}; {}", signal_number == SIGINT ? "SIGINT" : "SIGTERM", how_to_continue);
}

}  // namespace narrow
