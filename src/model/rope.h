// Rotary position tables.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/spec.h"
#include "tensor/tensor.h"

namespace narrow {

// cos and sin of position * frequency for positions [0, count), times the attention factor,
// computed in f64 from frequencies that are f32 as in transformers, and stored as f32. Immutable.
// Source: transformers 5, modeling_rope_utils.py.
class RopeTable {
 public:
  // `width`: channels of a head that turn.
  RopeTable(const RopeConfig& config, int64_t width, int64_t count);

  int64_t count() const { return cosine_.size() / half_; }
  std::span<const float> Cosine(int64_t position) const { return Row(cosine_, position); }
  std::span<const float> Sine(int64_t position) const { return Row(sine_, position); }

 private:
  std::span<const float> Row(const AlignedBuffer<float>& table, int64_t position) const {
    return {table.data() + position * half_, static_cast<std::size_t>(half_)};
  }

  int64_t half_;
  AlignedBuffer<float> cosine_;  // [count, width / 2]
  AlignedBuffer<float> sine_;    // [count, width / 2]
};

// The tables of all layers of a model: one for each rotation that occurs.
class RopeTables {
 public:
  RopeTables() = default;
  // Throws: kInvalidArgument where a text of `count` tokens would be rotated in another way.
  RopeTables(std::span<const LayerSpec> layers, int64_t count);

  // Null where the layer does not rotate.
  const RopeTable* Of(const LayerSpec& layer) const;

 private:
  struct Entry {
    RotarySpec spec;
    RopeTable table;
  };
  std::vector<Entry> entries_;
};

}  // namespace narrow
