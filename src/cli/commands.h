// The subcommands of the program.
#pragma once

#include <string>
#include <vector>

namespace narrow {

// Parses the arguments (argv, program name first) and runs the subcommand they name. Returns the
// exit status. Throws: Error; kInvalidArgument for anything wrong with the arguments.
int RunCommandLine(std::vector<std::string> arguments);

}  // namespace narrow
