// The program: one catch, one table of exit statuses (ErrorCode in base/error.h).
#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "cli/commands.h"

namespace {

int Report(narrow::ErrorCode code, const char* message) {
  std::fprintf(stderr, "narrow: %s\n", message);
  return static_cast<int>(code);
}

}  // namespace

// Large buffers go back to the system when they are freed, so that the memory of a run is what the
// program holds; glibc would raise the threshold on its own otherwise.
void ConfigureAllocator() {
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

void HandleStopSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int number) {
    narrow::RequestStop(number);
    // A second signal ends the program at once.
    std::signal(number, SIG_DFL);
  };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int main(int argc, char** argv) {
  ConfigureAllocator();
  HandleStopSignals();
  try {
    return narrow::RunCommandLine(std::vector<std::string>(argv, argv + argc));
  } catch (const narrow::Error& error) {
    return Report(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return Report(narrow::ErrorCode::kMemoryBudget,
                  "out of memory; close other programs or use a machine with more");
  } catch (const std::exception& error) {
    return Report(narrow::ErrorCode::kInternal, error.what());
  }
}
