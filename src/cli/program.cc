#include "cli/program.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "cli/commands.h"

namespace narrow {
namespace {

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
    RequestStop(number);
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

}  // namespace

// Standard output becomes a stream that cannot be written to.
void OccupyStandardStreams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this one.
    static_cast<void>(::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY));
  }
}

int RunProgram(int argc, char** argv, const std::function<void(const std::string& line)>& report) {
  ConfigureAllocator();
  HandleStopSignals();
  IgnoreWriteSignals();
  const auto fail = [&](ErrorCode code, const std::string& line) {
    report(line);
    return static_cast<int>(code);
  };
  try {
    return RunCommandLine(std::vector<std::string>(argv, argv + argc));
  } catch (const Error& error) {
    return fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kMemoryBudget,
                "out of memory; close other programs or use a machine with more");
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInternal, error.what());
  }
}

}  // namespace narrow
