// `narrow plan`: what `narrow quantize` with the same flags would take.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace narrow {

void AddPlanCommand(CLI::App& program, std::function<int()>& run);

}  // namespace narrow
