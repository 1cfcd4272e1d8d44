// Operands of products as the device holds them: bf16 or f32, which nothing above the device asks
// for. Views, and buffers that own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tensor/compute_type.h"
#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {

template <typename T>
inline constexpr ComputeType kComputeTypeOf =
    std::is_same_v<std::remove_const_t<T>, Bfloat16> ? ComputeType::kBfloat16
                                                     : ComputeType::kFloat32;

// A MatrixView of operands, whatever their type. Byte: std::byte, or const std::byte.
template <typename Byte>
struct OperandView {
  Byte* data = nullptr;
  ComputeType type = ComputeType::kFloat32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;  // elements

  OperandView() = default;
  OperandView(Byte* pointer, ComputeType compute, int64_t row_count, int64_t column_count)
      : OperandView(pointer, compute, row_count, column_count, column_count) {}
  OperandView(Byte* pointer, ComputeType compute, int64_t row_count, int64_t column_count,
              int64_t row_stride)
      : data(pointer), type(compute), rows(row_count), columns(column_count), stride(row_stride) {}
  template <typename T>  // float or Bfloat16, const or not
  OperandView(MatrixView<T> view)
      : OperandView(reinterpret_cast<Byte*>(view.data), kComputeTypeOf<T>, view.rows, view.columns,
                    view.stride) {}
  operator OperandView<const std::byte>() const { return {data, type, rows, columns, stride}; }

  OperandView RowBlock(int64_t first, int64_t count) const {
    return {data + first * stride * OperandBytes(type), type, count, columns, stride};
  }
  OperandView ColumnBlock(int64_t first, int64_t count) const {
    return {data + first * OperandBytes(type), type, rows, count, stride};
  }
  // As what it is. REQUIRES: T, float or Bfloat16, is the type.
  template <typename T>
  auto As() const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    NARROW_CHECK(type == kComputeTypeOf<T>);
    return MatrixView<Element>(reinterpret_cast<Element*>(data), rows, columns, stride);
  }
};

using Operands = OperandView<std::byte>;
using ConstOperands = OperandView<const std::byte>;

// Calls `run` with a value of the element type.
template <typename Run>
decltype(auto) WithElement(ComputeType type, const Run& run) {
  return type == ComputeType::kBfloat16 ? run(Bfloat16{}) : run(0.0f);
}

// Memory for operands; grows, and keeps what it has.
class OperandBuffer {
 public:
  // Room for [rows, columns], contents undefined.
  Operands Reserve(ComputeType type, int64_t rows, int64_t columns) {
    const int64_t bytes = rows * columns * OperandBytes(type);
    if (memory_.size() < bytes) memory_ = AlignedBuffer<std::byte>(bytes);
    return {memory_.data(), type, rows, columns};
  }

 private:
  AlignedBuffer<std::byte> memory_;
};

}  // namespace narrow
