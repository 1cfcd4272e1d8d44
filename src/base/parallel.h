// Work shared over the threads of the process. Work items are independent and each is done
// by one thread, so results do not depend on how many threads there are.
#pragma once

#include <cstdint>
#include <functional>

namespace narrow {

// Threads used by ParallelFor; 0 means one per available core. Libraries underneath run on the
// thread that calls them. Not to be called while ParallelFor runs.
void SetThreadCount(int count);
int ThreadCount();

// Calls work(i) for every i in [0, count), each on one thread, items handed out in order. Rethrows
// the first exception after all threads have stopped. Called from one thread at a time, and not
// from inside `work`.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& work);

}  // namespace narrow
