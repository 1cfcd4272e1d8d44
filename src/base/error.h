// The one exception type of the program and the codes main() turns into exit statuses.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace narrow {

// What went wrong, as far as a caller or a script can act on it. The values are the documented
// exit statuses of the program.
enum class ErrorCode {
  kInternal = 1,         // a defect of the program
  kInvalidArgument = 2,  // a flag or a combination of flags
  kNotFound = 3,         // a file, directory, tensor or data set that should be there
  kCorruptInput = 4,     // a file from outside that contradicts itself or its format
  kUnsupported = 5,      // a valid input this build does not handle
  kIo = 6,               // the operating system refused to read or write
  kNumeric = 7,          // NaN or infinity in weights or activations
  kMemoryBudget = 8,     // the job does not fit the memory it was given
  kHungUp = 129,         // SIGHUP
  kInterrupted = 130,    // SIGINT
  kTerminated = 143,     // SIGTERM
};

// REQUIRES: the message is one line saying what was expected, what was found and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

// Throws Error{code} with a formatted message.
template <typename... Args>
[[noreturn]] void Fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error{kInternal} naming the failed condition. For programmer errors only: a condition that
// a file or a flag can make false needs a Fail() with a message for the user.
[[noreturn]] void FailCheck(const char* condition, const char* file, int line);

#define NARROW_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::narrow::FailCheck(#condition, __FILE__, __LINE__))

}  // namespace narrow
