// The program: one catch, one table of exit statuses (ErrorCode in base/error.h).
#include <cstdio>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"

namespace {

int Report(narrow::ErrorCode code, const char* message) {
  std::fprintf(stderr, "narrow: %s\n", message);
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return narrow::RunCommandLine(std::vector<std::string>(argv, argv + argc));
  } catch (const narrow::Error& error) {
    return Report(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return Report(narrow::ErrorCode::kMemoryBudget,
                  "out of memory; close other programs or use a machine with more");
  } catch (const std::exception& error) {
    return Report(narrow::ErrorCode::kInternal, error.what());
  }
}
