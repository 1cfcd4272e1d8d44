// What was transferred to or from a device, and how long that took.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

namespace narrow {

struct Traffic {
  int64_t bytes = 0;
  double seconds = 0;  // inside of transfers; several at the same time count each

  friend Traffic operator+(const Traffic& a, const Traffic& b) {
    return {a.bytes + b.bytes, a.seconds + b.seconds};
  }
  friend Traffic operator-(const Traffic& a, const Traffic& b) {
    return {a.bytes - b.bytes, a.seconds - b.seconds};
  }
};

// What a time was spent on.
struct SecondsOf {
  double loading = 0;  // waiting for weights, reading what was not ahead, packing
  double calibration = 0;
  double quantization = 0;  // rounding and writing
  double evaluation = 0;
  int64_t flops = 0;  // of calibration and evaluation: products and attention

  friend SecondsOf operator-(const SecondsOf& a, const SecondsOf& b) {
    return {a.loading - b.loading, a.calibration - b.calibration, a.quantization - b.quantization,
            a.evaluation - b.evaluation, a.flops - b.flops};
  }
};

// Wall time of one layer and what went on meanwhile. Reading includes what was read ahead of the
// layer that follows.
struct LayerTimes {
  double seconds = 0;
  double loading_seconds = 0;  // of the whole
  Traffic read;
  Traffic written;
  SecondsOf whole = {};
  std::optional<SecondsOf> experts = {};  // of the whole
};

// Sums transfers. Thread-safe.
class TrafficMeter {
 public:
  // Calls `transfer`, which moves `bytes`.
  template <typename Transfer>
  void Measure(int64_t bytes, const Transfer& transfer) {
    const auto start = std::chrono::steady_clock::now();
    transfer();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    const std::lock_guard lock(mutex_);
    total_.bytes += bytes;
    total_.seconds += taken.count();
  }
  Traffic total() const {
    const std::lock_guard lock(mutex_);
    return total_;
  }

 private:
  mutable std::mutex mutex_;
  Traffic total_;
};

}  // namespace narrow
