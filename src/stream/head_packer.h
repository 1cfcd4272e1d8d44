// Rows of lm_head, packed for products as they pass by in chunks.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/matmul.h"
#include "model/config.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

// Memory of `rows` packed rows, and of the panel in which a HeadPacker gathers them.
int64_t PackedHeadBytes(const DecoderConfig& config, int64_t rows, ComputeType compute);
int64_t HeadPanelBytes(const DecoderConfig& config, ComputeType compute);

// T: operand type of the products. Thread-compatible.
template <typename T>
class HeadPacker {
 public:
  // For `rows` rows of a head [vocabulary, hidden] that is stored as `stored`, in panels of
  // kVocabularySlice.
  HeadPacker(const DecoderConfig& config, Dtype stored, int64_t rows);

  // The next rows, whole ones, as stored.
  void Add(std::span<const std::byte> rows);
  // REQUIRES: all rows were added.
  PackedMatrix<T> Take() &&;

 private:
  int64_t hidden_;
  Dtype stored_;
  int64_t rows_;
  int64_t added_ = 0;
  PackedMatrix<T> packed_;
  AlignedBuffer<T> panel_;
};

}  // namespace narrow
