// The frame of a program: what main() does around the command line.
#pragma once

#include <functional>
#include <string>

namespace narrow {

// Runs the command line in a process prepared for it, and returns the exit status: one catch, one
// table (ErrorCode in base/error.h). `report` takes the line that says what went wrong.
int RunProgram(int argc, char** argv, const std::function<void(const std::string& line)>& report);

// Before anything is opened: a standard stream that is closed would be the number of the next file,
// and what is printed would go there.
void OccupyStandardStreams();

}  // namespace narrow
