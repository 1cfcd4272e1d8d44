#include "cli/standard_output.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "io/file.h"

namespace narrow {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} << 10;

std::string& Buffer() {
  static std::string buffer;
  return buffer;
}

}  // namespace

void Print(std::string_view text) {
  Buffer() += text;
  if (Buffer().size() >= kBufferBytes) FlushOutput();
}

void FlushOutput() {
  // What could not be written is not tried again.
  const std::string text = std::exchange(Buffer(), {});
  WriteToDescriptor(STDOUT_FILENO, "standard output", text);
}

void PrintOfFinished(std::string_view directory, std::string_view text) {
  try {
    Print(text);
    FlushOutput();
  } catch (const Error& error) {
    Fail(error.code(), "{} ({} is complete all the same)", error.what(), directory);
  }
}

}  // namespace narrow
