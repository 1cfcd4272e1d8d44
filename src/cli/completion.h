// What a shell completes after `narrow`, made from the commands and flags that the program has.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace narrow {

// Scripts for bash (with or without the package bash-completion) and zsh: commands, the flags of
// each, the values of flags that take one of a list, and files elsewhere. Flags without a group are
// hidden.
std::string BashCompletion(const CLI::App& program);
std::string ZshCompletion(const CLI::App& program);

// narrow completion bash|zsh. `program` outlives `run`.
void AddCompletionCommand(CLI::App& program, std::function<int()>& run);

}  // namespace narrow
