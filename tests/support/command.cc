#include "tests/support/command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

extern char** environ;

namespace narrow {
namespace {

std::map<std::string, std::string> Environment(const CommandOptions& options) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string line = *entry;
    const std::size_t equals = line.find('=');
    if (equals != std::string::npos) variables[line.substr(0, equals)] = line.substr(equals + 1);
  }
  for (const auto& [name, value] : options.environment) variables[name] = value;
  return variables;
}

// -1: closed.
int OpenOutput(CommandOptions::Output output, const std::filesystem::path& kept) {
  using Output = CommandOptions::Output;
  if (output == Output::kClosed) return -1;
  if (output == Output::kFull) return ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (output == Output::kKept) return ::open(kept.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) == 0) ::close(ends[0]);
  return ends[1];
}

std::vector<char*> Pointers(std::vector<std::string>& lines) {
  std::vector<char*> pointers;
  for (std::string& line : lines) pointers.push_back(line.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Between fork and exec: only calls that are safe there.
[[noreturn]] void Exec(char* const* arguments, char* const* environment, int output, int error,
                       int64_t file_size_limit) {
  if (file_size_limit >= 0) {
    ::signal(SIGXFSZ, SIG_DFL);  // whatever the test runs under
    const auto bytes = static_cast<rlim_t>(file_size_limit);
    const rlimit limit{bytes, bytes};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(126);
  }
  ::signal(SIGPIPE, SIG_DFL);
  const int input = ::open("/dev/null", O_RDONLY);
  if (::dup2(input, STDIN_FILENO) < 0 || (output >= 0 && ::dup2(output, STDOUT_FILENO) < 0) ||
      ::dup2(error, STDERR_FILENO) < 0) {
    ::_exit(126);
  }
  if (output < 0) ::close(STDOUT_FILENO);
  ::execve(arguments[0], arguments, environment);
  ::_exit(127);
}

}  // namespace

std::string CommandResult::LastErrorLine() const {
  const std::size_t end = error.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const std::size_t before = error.rfind('\n', end);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  return error.substr(begin, end + 1 - begin);
}

RunningCommand::RunningCommand(const std::vector<std::string>& words, const CommandOptions& options)
    : timeout_seconds_(options.timeout_seconds) {
  std::vector<std::string> arguments = words;
  std::vector<std::string> environment;
  for (const auto& [name, value] : Environment(options)) environment.push_back(name + "=" + value);
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);
  const int output = OpenOutput(options.standard_output, scratch_.path() / "output");
  const int error =
      ::open((scratch_.path() / "error").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  process_ = ::fork();
  if (process_ == 0) {
    Exec(argument_pointers.data(), environment_pointers.data(), output, error,
         options.file_size_limit);
  }
  if (output >= 0) ::close(output);
  ::close(error);
  if (process_ < 0) result_.emplace();
}

RunningCommand::~RunningCommand() {
  Signal(SIGKILL);
  Wait();
}

bool RunningCommand::Ended() {
  if (result_) return true;
  int status = 0;
  rusage use = {};
  if (::wait4(process_, &status, WNOHANG, &use) == 0) return false;
  result_.emplace();
  if (WIFSIGNALED(status)) result_->signal = WTERMSIG(status);
  result_->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result_->peak_rss_bytes = int64_t{use.ru_maxrss} * 1024;
  result_->output = scratch_.Get("output");
  result_->error = scratch_.Get("error");
  return true;
}

void RunningCommand::Signal(int number) {
  if (!result_) ::kill(process_, number);
}

bool RunningCommand::Handles(int number) const {
  std::ifstream file("/proc/" + std::to_string(process_) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("SigCgt:")) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> (number - 1) & 1) != 0;
  }
  return false;
}

CommandResult RunningCommand::Wait() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds_);
  bool timed_out = false;
  while (!Ended()) {
    if (!timed_out && std::chrono::steady_clock::now() > deadline) {
      timed_out = true;
      Signal(SIGKILL);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  result_->timed_out = timed_out;
  return *result_;
}

CommandResult RunCommand(const std::vector<std::string>& words, const CommandOptions& options) {
  return RunningCommand(words, options).Wait();
}

std::vector<std::string> NarrowWords(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), NARROW_PROGRAM);
  return arguments;
}

CommandOptions NarrowOptions(CommandOptions options) {
  options.environment.try_emplace("NARROW_DATA_DIR", "/nonexistent");
  options.environment.try_emplace("XDG_CACHE_HOME", "/nonexistent");
  options.environment.try_emplace("HF_HUB_CACHE", "/nonexistent");
  options.environment.try_emplace("HF_HUB_OFFLINE", "1");
  return options;
}

CommandOptions WithFault(const FileFault& fault, CommandOptions options) {
  constexpr const char* kCalls[] = {"write",    "sync",       "read",
                                    "exchange", "step-death", "swap-death"};
  options.environment["LD_PRELOAD"] = NARROW_FILE_FAULTS;
  // The sanitizer's library wants to be the first.
  const char* sanitizer = std::getenv("ASAN_OPTIONS");
  options.environment["ASAN_OPTIONS"] =
      std::string(sanitizer != nullptr ? sanitizer : "") + ":verify_asan_link_order=0";
  options.environment["NARROW_FAULT_CALL"] = kCalls[static_cast<std::size_t>(fault.call)];
  options.environment["NARROW_FAULT_FILE"] = fault.file;
  options.environment["NARROW_FAULT_ONCE"] = fault.once;
  options.environment["NARROW_FAULT_AFTER"] = std::to_string(fault.after);
  return options;
}

CommandResult RunNarrow(std::vector<std::string> arguments, CommandOptions options) {
  return RunCommand(NarrowWords(std::move(arguments)), NarrowOptions(std::move(options)));
}

std::vector<std::string> QuantizeArguments(const std::string& model, const std::string& output,
                                           const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"quantize",
                                        "--model_dir",
                                        model,
                                        "--output_dir",
                                        output,
                                        "--quant_scheme",
                                        "w_fp8_a_fp8",
                                        "--kv_cache_dtype",
                                        "fp8",
                                        "--num_calib_data",
                                        "128",
                                        "--model_export",
                                        "quark_safetensors",
                                        "--no_weight_matrix_merge",
                                        "--custom_mode",
                                        "fp8"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string PutIds(const ScratchDirectory& scratch, const std::string& name, const Json& windows) {
  std::string lines;
  for (const Json& window : windows) lines += Json({{"tokens", window}}).dump() + "\n";
  return scratch.Put(name, lines).string();
}

CommandResult EvaluateIds(const std::string& model, const Json& windows,
                          const ScratchDirectory& scratch, const std::string& json,
                          const std::vector<std::string>& flags) {
  std::vector<std::string> words = {
      "evaluate",    "--model_dir", model,    "--eval_data", PutIds(scratch, "ids.jsonl", windows),
      "--data_type", "float32",     "--json", json};
  words.insert(words.end(), flags.begin(), flags.end());
  return RunNarrow(words);
}

}  // namespace narrow
