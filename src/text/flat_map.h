// An open-addressing hash table from 64-bit keys to 64-bit values, filled once and then read.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "base/error.h"

namespace narrow {

// Lookups touch one cache line as a rule. Thread-safe once filled.
class FlatMap {
 public:
  // Room for `count` keys at half load.
  explicit FlatMap(int64_t count = 0)
      : slots_(std::bit_ceil(static_cast<std::size_t>(2 * count + 2))),
        shift_(64 - std::countr_zero(slots_.size())) {}

  // Adds or replaces. REQUIRES: no more than `count` keys; key is not 2^64 - 1.
  void Put(uint64_t key, uint64_t value) {
    NARROW_CHECK(key != kEmpty);
    std::size_t i = Start(key);
    while (slots_[i].key != kEmpty && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    if (slots_[i].key == kEmpty) NARROW_CHECK(2 * ++size_ <= static_cast<int64_t>(slots_.size()));
    slots_[i] = {key, value};
  }

  // Null when absent.
  const uint64_t* Find(uint64_t key) const {
    std::size_t i = Start(key);
    while (slots_[i].key != key) {
      if (slots_[i].key == kEmpty) return nullptr;
      i = (i + 1) & (slots_.size() - 1);
    }
    return &slots_[i].value;
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    uint64_t value = 0;
  };

  std::size_t Start(uint64_t key) const {
    return static_cast<std::size_t>(((key ^ (key >> 29)) * 0x9E3779B97F4A7C15u) >> shift_);
  }

  std::vector<Slot> slots_;
  int shift_ = 0;
  int64_t size_ = 0;
};

}  // namespace narrow
