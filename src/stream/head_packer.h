// Rows of lm_head, packed for products as they pass by in chunks.
#pragma once

#include <cstdint>
#include <span>

#include "device/packed_weights.h"
#include "model/config.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

// Memory of `rows` packed rows, and of the panel in which a HeadPacker gathers them.
int64_t PackedHeadBytes(const DecoderConfig& config, int64_t rows, ComputeType compute);
int64_t HeadPanelBytes(const DecoderConfig& config, ComputeType compute);

// Thread-compatible.
class HeadPacker {
 public:
  // For `rows` rows of a head [vocabulary, hidden] that is stored as `stored`, in panels of
  // kVocabularySlice.
  HeadPacker(const DecoderConfig& config, ComputeType compute, Dtype stored, int64_t rows);

  // The next rows, whole ones, as stored.
  void Add(std::span<const std::byte> rows);
  // REQUIRES: all rows were added.
  PackedWeights Take() &&;

 private:
  int64_t hidden_;
  Dtype stored_;
  int64_t rows_;
  int64_t added_ = 0;
  PackedWeights packed_;
  OperandBuffer memory_;
  Operands panel_;  // in `memory_`
};

}  // namespace narrow
