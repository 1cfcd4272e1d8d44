// Ranks of one machine over pairs of sockets: jobs of several ranks without MPI, for tests.
#pragma once

#include <functional>

#include "base/ranks.h"

namespace narrow {

// Runs `work` in `count` processes, made of this one, that are the ranks of a job (JobRanks());
// returns when all have ended. Host i of `hosts` is the name of that of rank i; empty: one for all.
// True when all came to the end of `work`; `errors` says, by rank, what the others threw, or
// "killed". REQUIRES: the process has one thread, so that no ParallelFor has been run.
bool RunOnRanks(int count, const std::function<void()>& work, std::vector<std::string>& errors,
                std::vector<std::string> hosts = {});

}  // namespace narrow
