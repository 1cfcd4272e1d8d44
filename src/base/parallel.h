// Work shared over the threads of the process (OpenMP). Work items are independent and each is done
// by one thread, so results do not depend on how many threads there are.
#pragma once

#include <cstdint>
#include <functional>

namespace narrow {

// Threads used by ParallelFor and by the libraries underneath; 0 means one per available core.
void SetThreadCount(int count);
int ThreadCount();

// Calls work(i) for every i in [0, count), each on one thread, items handed out in order. Rethrows
// the first exception after all threads have stopped. Not to be nested.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& work);

}  // namespace narrow
