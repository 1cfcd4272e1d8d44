// Ranks of a job that mpirun or srun started.
#pragma once

#include <memory>
#include <string>

#include "base/ranks.h"

namespace narrow {

// Starts MPI; once a process. While the object lives, every rank tells every other each second that
// it is there, and one that has not been heard of for kSilenceSeconds ends the job, naming it
// (AbortMpi).
std::unique_ptr<Ranks> StartMpi(int& argc, char**& argv);
inline constexpr int kSilenceSeconds = 30;

// Ends MPI when all ranks have come here. The object of StartMpi is gone by then.
void FinishMpi();

// Ends the processes of all ranks with this exit status.
[[noreturn]] void AbortMpi(int status);

}  // namespace narrow
