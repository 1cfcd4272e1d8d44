// narrow quantize: the flags of quantize_quark.py that make sense here, with their names and
// meaning.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace narrow {

// Adds the subcommand; running it returns the exit status through `run`. `command_line` is argv as
// the user gave it.
void AddQuantizeCommand(CLI::App& program, const std::vector<std::string>& command_line,
                        std::function<int()>& run);

}  // namespace narrow
