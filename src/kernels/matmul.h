// Matrix products on oneDNN. Every primitive is built for one thread and callers share the rows out
// over threads. A row of a product is the same bits whatever rows are multiplied along with it, so
// a result depends neither on the number of threads nor on how rows are batched.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "tensor/compute_type.h"
#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {

// bf16 where the CPU multiplies it natively (AVX512_BF16), else f32.
ComputeType NativeComputeType();
// The instruction set oneDNN uses here, for reports ("avx512_core_bf16").
std::string InstructionSetName();
// Products built so far for which oneDNN has no fast kernel, only its reference: right, and a
// thousand times slower.
int64_t ReferenceProductCount();

// About the bytes of a panel, where nothing else is asked for.
inline constexpr int64_t kPanelBytes = int64_t{128} << 20;

// A weight matrix W [rows (output), columns (input)] in the layout oneDNN multiplies fastest, kept
// as panels of rows so that packing needs one panel of extra memory, not a second matrix. T:
// Bfloat16 or float. Products are thread-safe; packing is not.
template <typename T>
class PackedMatrix {
 public:
  PackedMatrix();
  // Room for the matrix, contents undefined until all panels are packed. `panel_rows` 0 chooses
  // panels of about kPanelBytes.
  PackedMatrix(int64_t rows, int64_t columns, int64_t panel_rows = 0);
  ~PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;

  // What each thread holds while it multiplies m rows by such a matrix into elements of
  // `output_bytes`.
  static int64_t ThreadBytes(int64_t rows, int64_t columns, int64_t m, int64_t output_bytes);

  int64_t rows() const;
  int64_t columns() const;
  int64_t panel_rows() const;
  int64_t panel_count() const;
  int64_t bytes() const;  // of all panels

  // Packs panel p from w [rows of the panel, columns] (row stride allowed), and the inverse; exact.
  // On all threads, so not from within ParallelFor.
  void PackPanel(int64_t panel, MatrixView<const T> w);
  void UnpackPanel(int64_t panel, MatrixView<T> w) const;
  // All panels from one matrix.
  void Pack(MatrixView<const T> w);

  // Every product from now on is y = x W^T * scales + bias, both [rows], in f32; without scales
  // they are 1, without a bias it is 0 (empty spans).
  void SetEpilogue(std::span<const float> scales, std::span<const float> bias);

  // out [m, rows] = y, rounded to T once, on the calling thread.
  void Multiply(MatrixView<const T> x, MatrixView<T> out) const;
  // out [m, rows] += y, on the calling thread.
  void MultiplyAdd(MatrixView<const T> x, MatrixView<float> out) const;
  // out [m, rows of the panel] = y of the panel's rows, on the calling thread.
  void MultiplyPanel(int64_t panel, MatrixView<const T> x, MatrixView<float> out) const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// Products of plain (unpacked) matrices, on the calling thread.
// c [m, n] = a [m, k] b^T with b [n, k].
template <typename T>
void ProductTransposed(MatrixView<const T> a, MatrixView<const T> b, MatrixView<float> c);
// c [m, n] += a [m, k] b with b [k, n]. The exception: without AVX-512 the last bits of a row
// depend on m, so callers keep m to what does not change with threads and batches.
template <typename T>
void ProductAdd(MatrixView<const T> a, MatrixView<const T> b, MatrixView<float> c);

}  // namespace narrow
