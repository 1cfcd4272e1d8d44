// Rotary position tables.
#pragma once

#include <cstdint>
#include <span>

#include "model/config.h"
#include "tensor/tensor.h"

namespace narrow {

// cos and sin of position * frequency for positions [0, count), computed in f64 from frequencies
// that are f32 as in transformers, and stored as f32. Immutable. Source: transformers 5,
// modeling_rope_utils.py.
class RopeTable {
 public:
  RopeTable(const RopeConfig& config, int64_t head_size, int64_t count);

  int64_t count() const { return cosine_.size() / half_; }
  std::span<const float> Cosine(int64_t position) const { return Row(cosine_, position); }
  std::span<const float> Sine(int64_t position) const { return Row(sine_, position); }

 private:
  std::span<const float> Row(const AlignedBuffer<float>& table, int64_t position) const {
    return {table.data() + position * half_, static_cast<std::size_t>(half_)};
  }

  int64_t half_;
  AlignedBuffer<float> cosine_;  // [count, head_size / 2]
  AlignedBuffer<float> sine_;    // [count, head_size / 2]
};

}  // namespace narrow
