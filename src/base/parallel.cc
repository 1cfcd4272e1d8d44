#include "base/parallel.h"

#include <omp.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"

namespace narrow {
namespace {

// One ParallelFor. Workers that arrive late find no item left.
struct Job {
  int64_t count = 0;
  const std::function<void(int64_t)>* work = nullptr;
  std::atomic<int64_t> next = 0;
  std::atomic<bool> stop = false;
  std::mutex failure_mutex;
  std::exception_ptr failure;

  void Run() {
    while (!stop.load(std::memory_order_relaxed)) {
      const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= count) return;
      try {
        (*work)(i);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
        stop = true;
      }
    }
  }
};

// Threads that sleep between jobs. OpenMP's own threads spin instead, which takes the cores from
// other programs, and from reading and writing, whenever the work is uneven.
class ThreadPool {
 public:
  explicit ThreadPool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { Serve(); });
  }
  ~ThreadPool() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void Run(Job& job) {
    {
      const std::lock_guard lock(mutex_);
      NARROW_CHECK(job_ == nullptr);
      job_ = &job;
      ++generation_;
      busy_ = static_cast<int>(workers_.size());
    }
    wake_.notify_all();
    job.Run();
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return busy_ == 0; });
    job_ = nullptr;
  }

 private:
  void Serve() {
    omp_set_num_threads(1);  // oneDNN runs on the calling thread
    int64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return closing_ || generation_ != seen; });
      if (closing_) return;
      seen = generation_;
      Job& job = *job_;
      lock.unlock();
      job.Run();
      lock.lock();
      if (--busy_ == 0) finished_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
  Job* job_ = nullptr;
  int64_t generation_ = 0;
  int busy_ = 0;
  bool closing_ = false;
};

std::unique_ptr<ThreadPool>& Pool() {
  static std::unique_ptr<ThreadPool> pool;
  return pool;
}

}  // namespace

void SetThreadCount(int count) {
  NARROW_CHECK(count >= 0);
  omp_set_num_threads(1);
  Pool() = std::make_unique<ThreadPool>(count > 0 ? count : omp_get_num_procs());
}

int ThreadCount() {
  if (Pool() == nullptr) SetThreadCount(0);
  return Pool()->threads();
}

void ParallelFor(int64_t count, const std::function<void(int64_t)>& work) {
  Job job;
  job.count = count;
  job.work = &work;
  if (count <= 1 || ThreadCount() == 1) {
    job.Run();
  } else {
    Pool()->Run(job);
  }
  if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace narrow
