// The command that adds scales of the KV cache to a checkpoint.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace narrow {

// `run` is set when the command line asks for it.
void AddCalibrateKvCommand(CLI::App& program, const std::vector<std::string>& command_line,
                           std::function<int()>& run);

}  // namespace narrow
