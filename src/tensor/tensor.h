// Views (borrowed) and owners of dense row-major tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tensor/dtype.h"

namespace narrow {

using Shape = std::vector<int64_t>;

// A 2-D window on memory somebody else owns; row r starts at data + r * stride (elements).
template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;

  MatrixView() = default;
  MatrixView(T* pointer, int64_t row_count, int64_t column_count, int64_t row_stride)
      : data(pointer), rows(row_count), columns(column_count), stride(row_stride) {}
  MatrixView(T* pointer, int64_t row_count, int64_t column_count)
      : MatrixView(pointer, row_count, column_count, column_count) {}
  operator MatrixView<const T>() const { return {data, rows, columns, stride}; }

  T* Row(int64_t r) const { return data + r * stride; }
  std::span<T> RowSpan(int64_t r) const { return {Row(r), static_cast<std::size_t>(columns)}; }
  // `count` rows from `first`.
  MatrixView RowBlock(int64_t first, int64_t count) const {
    return {Row(first), count, columns, stride};
  }
  MatrixView ColumnBlock(int64_t first, int64_t count) const {
    return {data + first, rows, count, stride};
  }
};

// Uninitialised memory for `count` elements, aligned for SIMD and oneDNN; move-only.
template <typename T>
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t count) : size_(count) {
    NARROW_CHECK(count >= 0);
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    // Aligned by us: glibc before 2.38 does not give a freed aligned block to the next request of
    // the same size (its bug 14581), and a heap of such requests grows by what lies between them.
    memory_.reset(static_cast<std::byte*>(::operator new(bytes + kAlignment)));
    void* start = memory_.get();
    std::size_t space = bytes + kAlignment;
    data_ = static_cast<T*>(std::align(kAlignment, bytes, start, space));
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  std::span<T> span() { return {data(), static_cast<std::size_t>(size_)}; }
  std::span<const T> span() const { return {data(), static_cast<std::size_t>(size_)}; }

  AlignedBuffer(AlignedBuffer&& other) noexcept
      : memory_(std::move(other.memory_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    memory_ = std::move(other.memory_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

 private:
  struct Free {
    void operator()(std::byte* pointer) const { ::operator delete(pointer); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace narrow
