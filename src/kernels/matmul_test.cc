#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace narrow {
namespace {

template <typename T>
T FromFloat(float value);
template <>
float FromFloat<float>(float value) {
  return value;
}
template <>
Bfloat16 FromFloat<Bfloat16>(float value) {
  return ToBfloat16(value);
}
float AsFloat(float value) { return value; }
float AsFloat(Bfloat16 value) { return ToFloat(value); }

template <typename T>
AlignedBuffer<T> Random(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  AlignedBuffer<T> buffer(count);
  for (int64_t i = 0; i < count; ++i) buffer[i] = FromFloat<T>(normal(generator));
  return buffer;
}

// x W^T in f64, the reference for every product.
template <typename T>
std::vector<double> Reference(MatrixView<const T> x, MatrixView<const T> w) {
  std::vector<double> out(static_cast<std::size_t>(x.rows * w.rows));
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t j = 0; j < w.rows; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < x.columns; ++k) {
        sum += static_cast<double>(AsFloat(x.Row(i)[k])) * AsFloat(w.Row(j)[k]);
      }
      out[static_cast<std::size_t>(i * w.rows + j)] = sum;
    }
  }
  return out;
}

template <typename T>
class PackedMatrixTest : public testing::Test {};
using OperandTypes = testing::Types<float, Bfloat16>;
TYPED_TEST_SUITE(PackedMatrixTest, OperandTypes);

TYPED_TEST(PackedMatrixTest, PanelsUnpackToWhatWasPacked) {
  using T = TypeParam;
  const int64_t rows = 150, columns = 77;
  const AlignedBuffer<T> w = Random<T>(rows * columns, 1);
  PackedMatrix<T> packed(rows, columns, 64);
  ASSERT_EQ(packed.panel_count(), 3);
  packed.Pack({w.data(), rows, columns});
  AlignedBuffer<T> back(rows * columns);
  for (int64_t panel = 0; panel < 3; ++panel) {
    packed.UnpackPanel(panel, MatrixView<T>(back.data(), rows, columns)
                                  .RowBlock(panel * 64, std::min<int64_t>(64, rows - panel * 64)));
  }
  EXPECT_EQ(
      std::memcmp(back.data(), w.data(), static_cast<std::size_t>(rows * columns) * sizeof(T)), 0);
}

TYPED_TEST(PackedMatrixTest, ProductsMatchTheReference) {
  using T = TypeParam;
  const int64_t rows = 350, columns = 77, m = 293;
  const AlignedBuffer<T> w = Random<T>(rows * columns, 1);
  const AlignedBuffer<T> x = Random<T>(m * columns, 2);
  const AlignedBuffer<float> bias = Random<float>(rows, 3);
  const std::vector<double> reference =
      Reference<T>({x.data(), m, columns}, {w.data(), rows, columns});
  PackedMatrix<T> packed(rows, columns, 192);
  packed.Pack({w.data(), rows, columns});
  packed.SetBias(bias.span());
  AlignedBuffer<float> sum(m * rows);
  std::fill_n(sum.data(), m * rows, 2.0f);
  packed.MultiplyAdd({x.data(), m, columns}, 0.25f, {sum.data(), m, rows});
  AlignedBuffer<T> out(m * rows);
  packed.Multiply({x.data(), m, columns}, {out.data(), m, rows});
  for (int64_t i = 0; i < m * rows; ++i) {
    const double expected = reference[static_cast<std::size_t>(i)] + bias[i % rows];
    // f32 accumulation of 77 products of standard normals; bf16 output adds half a step of 2^-8.
    EXPECT_NEAR(sum[i], 2.0 + 0.25 * expected, 1e-4);
    const double step = sizeof(T) == 2 ? 0x1p-8 : 1e-5;
    EXPECT_NEAR(AsFloat(out[i]), expected, 1e-4 + std::abs(expected) * step);
  }
}

// A matrix of several panels writes into a part of the columns.
TYPED_TEST(PackedMatrixTest, ProductsOfPanelsAreFastOnes) {
  using T = TypeParam;
  if (std::is_same_v<T, Bfloat16> && NativeComputeType() != ComputeType::kBfloat16) GTEST_SKIP();
  const int64_t rows = 320, columns = 96, m = 48;
  const AlignedBuffer<T> w = Random<T>(rows * columns, 1);
  const AlignedBuffer<T> x = Random<T>(m * columns, 2);
  PackedMatrix<T> packed(rows, columns, 128);
  ASSERT_EQ(packed.panel_count(), 3);
  packed.Pack({w.data(), rows, columns});
  AlignedBuffer<float> sum(m * rows);
  std::fill_n(sum.data(), m * rows, 0.0f);
  AlignedBuffer<T> out(m * rows);
  const int64_t before = ReferenceProductCount();
  packed.MultiplyAdd({x.data(), m, columns}, 1.0f, {sum.data(), m, rows});
  packed.MultiplyAdd({x.data(), m, columns}, 0.3f, {sum.data(), m, rows});
  packed.Multiply({x.data(), m, columns}, {out.data(), m, rows});
  EXPECT_EQ(ReferenceProductCount(), before);
}

TYPED_TEST(PackedMatrixTest, ARowDoesNotDependOnItsNeighbours) {
  using T = TypeParam;
  const int64_t rows = 576, columns = 1536;
  const AlignedBuffer<T> w = Random<T>(rows * columns, 1);
  const AlignedBuffer<T> x = Random<T>(512 * columns, 2);
  PackedMatrix<T> packed(rows, columns);
  packed.Pack({w.data(), rows, columns});
  AlignedBuffer<float> all(512 * rows);
  std::fill_n(all.data(), 512 * rows, 0.0f);
  packed.MultiplyAdd({x.data(), 512, columns}, 0.3f, {all.data(), 512, rows});
  for (const int64_t m : {1, 2, 7, 16, 31, 64, 100, 255, 256, 411}) {
    const int64_t first = 512 - m;
    AlignedBuffer<float> some(m * rows);
    std::fill_n(some.data(), m * rows, 0.0f);
    packed.MultiplyAdd({x.data() + first * columns, m, columns}, 0.3f, {some.data(), m, rows});
    EXPECT_EQ(std::memcmp(some.data(), all.data() + first * rows,
                          static_cast<std::size_t>(m * rows) * sizeof(float)),
              0)
        << m << " rows";
  }
}

TYPED_TEST(PackedMatrixTest, PlainProductsMatchTheReference) {
  using T = TypeParam;
  const int64_t m = 33, n = 70, k = 64;
  const AlignedBuffer<T> a = Random<T>(m * k, 1);
  const AlignedBuffer<T> b = Random<T>(n * k, 2);
  const std::vector<double> reference = Reference<T>({a.data(), m, k}, {b.data(), n, k});
  AlignedBuffer<T> transposed(k * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) transposed[j * n + i] = b[i * k + j];
  }
  AlignedBuffer<float> c(m * n);
  AlignedBuffer<float> sum(m * n);
  std::fill_n(sum.data(), m * n, 1.0f);
  ProductTransposed<T>({a.data(), m, k}, {b.data(), n, k}, {c.data(), m, n});
  ProductAdd<T>({a.data(), m, k}, {transposed.data(), k, n}, {sum.data(), m, n});
  for (int64_t i = 0; i < m * n; ++i) {
    EXPECT_NEAR(c[i], reference[static_cast<std::size_t>(i)], 1e-4);
    EXPECT_NEAR(sum[i], 1.0 + reference[static_cast<std::size_t>(i)], 1e-4);
  }
}

}  // namespace
}  // namespace narrow
