// Runs programs, above all narrow itself, and keeps what they said.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace narrow {

struct CommandOptions {
  std::map<std::string, std::string> environment = {};  // added to the test's own, or replacing it
  int64_t timeout_seconds = 120;
  int64_t file_size_limit = -1;  // bytes that a file may have at most; -1: no limit
};

struct CommandResult {
  int status = -1;  // exit status; 128 + number after a signal
  bool timed_out = false;
  std::string output;  // standard output
  std::string error;   // standard error

  // The last line of standard error.
  std::string LastErrorLine() const;
};

// Runs words[0] (a path) and waits for it; it is killed when the time is over.
CommandResult RunCommand(const std::vector<std::string>& words, const CommandOptions& options = {});

// Runs the program under test. No data set is found unless the arguments or the environment name
// one.
CommandResult RunNarrow(std::vector<std::string> arguments, CommandOptions options = {});

// The flags that Quark's users know, with what one test adds.
std::vector<std::string> QuantizeArguments(const std::string& model, const std::string& output,
                                           const std::vector<std::string>& more = {});

}  // namespace narrow
