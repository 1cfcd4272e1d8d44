// narrow synthesize: checkpoints of any size for trying out the others.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace narrow {

// Adds the subcommand; running it returns the exit status through `run`.
void AddSynthesizeCommand(CLI::App& program, std::function<int()>& run);

}  // namespace narrow
