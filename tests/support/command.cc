#include "tests/support/command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "io/scratch_directory.h"

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
    // Without the signal a write beyond the limit fails like one to a full disk.
    ::signal(SIGXFSZ, SIG_IGN);
    const auto bytes = static_cast<rlim_t>(file_size_limit);
    const rlimit limit{bytes, bytes};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(126);
  }
  const int input = ::open("/dev/null", O_RDONLY);
  if (::dup2(input, STDIN_FILENO) < 0 || ::dup2(output, STDOUT_FILENO) < 0 ||
      ::dup2(error, STDERR_FILENO) < 0) {
    ::_exit(126);
  }
  ::execve(arguments[0], arguments, environment);
  ::_exit(127);
}

// Waits for the process, and kills it when the time is over.
void Wait(pid_t process, int64_t timeout_seconds, CommandResult& result) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds);
  int status = 0;
  while (::waitpid(process, &status, WNOHANG) == 0) {
    if (!result.timed_out && std::chrono::steady_clock::now() > deadline) {
      result.timed_out = true;
      ::kill(process, SIGKILL);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

std::string CommandResult::LastErrorLine() const {
  const std::size_t end = error.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const std::size_t before = error.rfind('\n', end);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  return error.substr(begin, end + 1 - begin);
}

CommandResult RunCommand(const std::vector<std::string>& words, const CommandOptions& options) {
  std::vector<std::string> arguments = words;
  std::vector<std::string> environment;
  for (const auto& [name, value] : Environment(options)) environment.push_back(name + "=" + value);
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);
  const ScratchDirectory scratch;
  const int output =
      ::open((scratch.path() / "output").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  const int error =
      ::open((scratch.path() / "error").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  const pid_t process = ::fork();
  if (process == 0) {
    Exec(argument_pointers.data(), environment_pointers.data(), output, error,
         options.file_size_limit);
  }
  ::close(output);
  ::close(error);
  CommandResult result;
  if (process < 0) return result;
  Wait(process, options.timeout_seconds, result);
  result.output = scratch.Get("output");
  result.error = scratch.Get("error");
  return result;
}

CommandResult RunNarrow(std::vector<std::string> arguments, CommandOptions options) {
  arguments.insert(arguments.begin(), NARROW_PROGRAM);
  options.environment.try_emplace("NARROW_DATA_DIR", "/nonexistent");
  options.environment.try_emplace("XDG_CACHE_HOME", "/nonexistent");
  return RunCommand(arguments, options);
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

}  // namespace narrow
