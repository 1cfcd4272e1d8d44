// narrow download: a model of the hub into its cache.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace narrow {

// Adds the subcommand; running it returns the exit status through `run`.
void AddDownloadCommand(CLI::App& program, std::function<int()>& run);

}  // namespace narrow
