// Runs programs, above all narrow itself, and keeps what they said.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/scratch_directory.h"

namespace narrow {

struct CommandOptions {
  std::map<std::string, std::string> environment = {};  // added to the test's own, or replacing it
  int64_t timeout_seconds = 600;
  int64_t file_size_limit = -1;  // bytes that a file may have at most; -1: no limit
  // Where standard output goes: it is kept, or it fails as a full disk, a closed stream, or a pipe
  // that no one reads.
  enum class Output { kKept, kFull, kClosed, kClosedPipe } standard_output = Output::kKept;
};

struct CommandResult {
  int status = -1;  // exit status; 128 + number after a signal
  int signal = 0;   // the signal that ended it; 0: it ended by itself
  bool timed_out = false;
  int64_t peak_rss_bytes = 0;  // largest resident memory, as the kernel counted it
  std::string output;          // standard output
  std::string error;           // standard error

  // The last line of standard error.
  std::string LastErrorLine() const;
};

// A program that runs beside the test. It is killed when the object goes before it has ended.
class RunningCommand {
 public:
  explicit RunningCommand(const std::vector<std::string>& words,
                          const CommandOptions& options = {});
  ~RunningCommand();
  RunningCommand(const RunningCommand&) = delete;
  RunningCommand& operator=(const RunningCommand&) = delete;

  // Whether it has ended.
  bool Ended();
  void Signal(int number);
  // Whether it would handle the signal now, rather than be ended by it.
  bool Handles(int number) const;
  // Waits for the end, and kills the program when the time is over.
  CommandResult Wait();

 private:
  ScratchDirectory scratch_;
  int64_t timeout_seconds_;
  pid_t process_ = -1;
  std::optional<CommandResult> result_;  // once it has ended
};

// Runs words[0] (a path) and waits for it; it is killed when the time is over.
CommandResult RunCommand(const std::vector<std::string>& words, const CommandOptions& options = {});

// Runs the program under test. No data set is found, and no hub is asked, unless the arguments or
// the environment name one.
CommandResult RunNarrow(std::vector<std::string> arguments, CommandOptions options = {});

// A disk that fails the program: calls on files whose path holds `file` do, after the first `after`
// and once there is a file `once` (empty: from the start).
struct FileFault {
  // Full, full, broken; no exchange of directories; none, and the program is killed after the
  // first renameat2 of such a file; an exchange, after which it is killed.
  enum class Call { kWrite, kSync, kRead, kExchange, kStepDeath, kSwapDeath } call = Call::kWrite;
  const char* file = "";
  int64_t after = 0;
  std::string_view once = {};
};
CommandOptions WithFault(const FileFault& fault, CommandOptions options = {});

// The words and the options that RunNarrow runs.
std::vector<std::string> NarrowWords(std::vector<std::string> arguments);
CommandOptions NarrowOptions(CommandOptions options = {});

// The flags that Quark's users know, with what one test adds.
std::vector<std::string> QuantizeArguments(const std::string& model, const std::string& output,
                                           const std::vector<std::string>& more = {});

// A file of windows of token ids (an array of arrays), a line each, as --dataset and --eval_data
// take it; returns its path.
std::string PutIds(const ScratchDirectory& scratch, const std::string& name, const Json& windows);

// `narrow evaluate` in float32 of windows of token ids (an array of arrays), which takes no
// tokenizer; its figures go to the file `json`.
CommandResult EvaluateIds(const std::string& model, const Json& windows,
                          const ScratchDirectory& scratch, const std::string& json,
                          const std::vector<std::string>& flags = {});

}  // namespace narrow
