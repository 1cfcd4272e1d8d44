#include "base/parallel.h"

#include <omp.h>

#include <atomic>
#include <exception>

#include "base/error.h"

namespace narrow {

void SetThreadCount(int count) {
  NARROW_CHECK(count >= 0);
  omp_set_num_threads(count > 0 ? count : omp_get_num_procs());
}

int ThreadCount() { return omp_get_max_threads(); }

void ParallelFor(int64_t count, const std::function<void(int64_t)>& work) {
  std::exception_ptr failure;
  std::atomic<bool> stop = false;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < count; ++i) {
    if (stop.load(std::memory_order_relaxed)) continue;
    try {
      work(i);
    } catch (...) {
#pragma omp critical(narrow_parallel_for)
      if (!failure) failure = std::current_exception();
      stop = true;
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace narrow
