// The program. What it does is in program.h.
#include <cstdio>
#include <string>

#include "cli/program.h"

int main(int argc, char** argv) {
  narrow::OccupyStandardStreams();
  return narrow::RunProgram(argc, argv, [](const std::string& line) {
    std::fprintf(stderr, "narrow: %s\n", line.c_str());
  });
}
