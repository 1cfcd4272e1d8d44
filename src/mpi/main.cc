// narrow-mpi: the same program, whose `quantize` and `evaluate` are divided over the ranks of a job
// that mpirun or srun started.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/ranks.h"
#include "base/version.h"
#include "cli/program.h"
#include "device/packed_weights.h"
#include "mpi/mpi_ranks.h"

namespace {

using narrow::JobRanks;

// What all ranks say they say once: of all but the first, only errors are shown. Returns where
// those go.
std::FILE* LeaveTalkingToLeader() {
  if (JobRanks().leads()) return stderr;
  std::FILE* errors = ::fdopen(::dup(STDERR_FILENO), "w");
  const int nothing = ::open("/dev/null", O_WRONLY);
  ::dup2(nothing, STDOUT_FILENO);
  ::dup2(nothing, STDERR_FILENO);
  ::close(nothing);
  return errors;
}

// What is wrong for all is said by the first, which ends the others while they wait.
void Report(std::FILE* errors, const std::string& line) {
  if (JobRanks().count() == 1) {
    std::fprintf(errors, "narrow: %s\n", line.c_str());
    return;
  }
  if (!JobRanks().leads()) std::this_thread::sleep_for(std::chrono::seconds(2));
  std::fprintf(errors, "narrow: %s: %s\n", JobRanks().Name(JobRanks().rank()).c_str(),
               line.c_str());
  std::fflush(errors);
}

int Run(int argc, char** argv, std::FILE* errors) {
  try {
    if (JobRanks().count() > 1 && argc > 1) {
      const std::string_view command = argv[1];
      if (!command.starts_with('-') && command != "quantize" && command != "evaluate") {
        narrow::Fail(narrow::ErrorCode::kInvalidArgument,
                     "{} is not divided over ranks, only quantize and evaluate are; run narrow {}",
                     command, command);
      }
      CheckAlike(JobRanks(), "the program version", narrow::kVersion);
      CheckAlike(JobRanks(), "the instruction set", narrow::InstructionSetName());
      JobRanks().ShareHost();
    }
  } catch (const narrow::Error& error) {
    Report(errors, error.what());
    return static_cast<int>(error.code());
  }
  return narrow::RunProgram(argc, argv,
                            [errors](const std::string& line) { Report(errors, line); });
}

}  // namespace

int main(int argc, char** argv) {
  narrow::OccupyStandardStreams();
  try {
    narrow::SetJobRanks(narrow::StartMpi(argc, argv));
  } catch (const narrow::Error& error) {
    std::fprintf(stderr, "narrow: %s\n", error.what());
    return static_cast<int>(error.code());
  }
  const int status = Run(argc, argv, LeaveTalkingToLeader());
  if (status != 0 && JobRanks().count() > 1) narrow::AbortMpi(status);
  JobRanks().Barrier();
  narrow::SetJobRanks(nullptr);
  narrow::FinishMpi();
  return status;
}
