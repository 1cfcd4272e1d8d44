// Weights in the layout the device multiplies fastest.
#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include "device/operands.h"
#include "kernels/matmul.h"

namespace narrow {

// A PackedMatrix of the device's operands. Products are thread-safe; packing is not.
class PackedWeights {
 public:
  PackedWeights() = default;
  // As PackedMatrix.
  PackedWeights(ComputeType type, int64_t rows, int64_t columns, int64_t panel_rows = 0);
  template <typename T>  // float or Bfloat16
  PackedWeights(PackedMatrix<T> matrix) : matrix_(std::move(matrix)) {}

  // What each thread holds while it multiplies m rows by such weights into elements of
  // `output_bytes`.
  static int64_t ThreadBytes(ComputeType type, int64_t rows, int64_t columns, int64_t m,
                             int64_t output_bytes);

  ComputeType type() const;
  int64_t rows() const;
  int64_t columns() const;
  int64_t panel_rows() const;
  int64_t panel_count() const;
  int64_t bytes() const;  // of all panels

  // Packs panel p from w [rows of the panel, columns], and the inverse; exact. On all threads.
  void PackPanel(int64_t panel, ConstOperands w);
  void UnpackPanel(int64_t panel, Operands w) const;
  // All panels from one matrix.
  void Pack(ConstOperands w);

  // Every product from now on is y = x W^T * scales + bias, both [rows], in f32; empty: 1, and 0.
  void SetEpilogue(std::span<const float> scales, std::span<const float> bias);

  // out [m, rows] = y, rounded to the operands' type once; out += y; out [m, rows of the panel] =
  // y of these rows. On the calling thread.
  void Multiply(ConstOperands x, Operands out) const;
  void MultiplyAdd(ConstOperands x, MatrixView<float> out) const;
  void MultiplyPanel(int64_t panel, ConstOperands x, MatrixView<float> out) const;

 private:
  std::variant<PackedMatrix<float>, PackedMatrix<Bfloat16>> matrix_;
};

// Rows of `columns` f32 weights that are rewritten at a time, at most: 64 MB of them, and whole
// chunks of compensated rounding.
int64_t RewriteRows(int64_t columns);
inline constexpr int64_t kRewriteBytes = int64_t{64} << 20;

}  // namespace narrow
