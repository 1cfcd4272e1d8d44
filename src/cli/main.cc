// The program: one catch, one table of exit statuses (ErrorCode in base/error.h).
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <cerrno>
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

// A second SIGINT or SIGTERM ends the program at once; a terminal that goes away may send SIGHUP
// several times, and not at all to what runs under nohup.
void HandleStopSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int number) {
    narrow::RequestStop(number);
    if (number != SIGHUP) std::signal(number, SIG_DFL);
  };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction hang_up = {};
  if (sigaction(SIGHUP, nullptr, &hang_up) == 0 && hang_up.sa_handler != SIG_IGN) {
    sigaction(SIGHUP, &action, nullptr);
  }
}

// A pipe without a reader and a file beyond `ulimit -f` are failed writes like those to a full
// disk.
void IgnoreWriteSignals() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

// A standard stream that is closed would be the number of the next file that is opened, and what is
// printed would go there. Standard output is one that cannot be written to instead.
void OccupyStandardStreams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this one.
    static_cast<void>(::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY));
  }
}

int main(int argc, char** argv) {
  OccupyStandardStreams();
  ConfigureAllocator();
  HandleStopSignals();
  IgnoreWriteSignals();
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
