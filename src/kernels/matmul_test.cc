#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "kernels/products_test.h"

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
class PackedMatrixTest : public TestWithProducts<T> {};
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
  const AlignedBuffer<float> scales = Random<float>(rows, 4);
  packed.SetEpilogue(scales.span(), bias.span());
  AlignedBuffer<float> sum(m * rows);
  std::fill_n(sum.data(), m * rows, 2.0f);
  packed.MultiplyAdd({x.data(), m, columns}, {sum.data(), m, rows});
  AlignedBuffer<T> out(m * rows);
  packed.Multiply({x.data(), m, columns}, {out.data(), m, rows});
  for (int64_t i = 0; i < m * rows; ++i) {
    const double expected =
        double{scales[i % rows]} * reference[static_cast<std::size_t>(i)] + bias[i % rows];
    // f32 accumulation of 77 products of standard normals; bf16 output adds half a step of 2^-8.
    EXPECT_NEAR(sum[i], 2.0 + expected, 1e-4);
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
  const AlignedBuffer<float> scales = Random<float>(rows, 3), bias = Random<float>(rows, 4);
  const std::span<const float> none;
  for (const auto& of_rows : {none, std::span<const float>(scales.span())}) {
    for (const auto& added : {none, std::span<const float>(bias.span())}) {
      packed.SetEpilogue(of_rows, added);
      packed.MultiplyAdd({x.data(), m, columns}, {sum.data(), m, rows});
      packed.Multiply({x.data(), m, columns}, {out.data(), m, rows});
    }
  }
  EXPECT_EQ(ReferenceProductCount(), before);
}

// multiply(x [m, columns], out [m, n]) for parts of x, against the same rows of the product of all.
template <typename T, typename Out, typename Multiply>
void ExpectRowsOfTheWhole(MatrixView<const T> x, int64_t n, const Multiply& multiply) {
  const auto product = [&](MatrixView<const T> part) {
    AlignedBuffer<Out> out(part.rows * n);
    for (int64_t i = 0; i < out.size(); ++i) out[i] = FromFloat<Out>(1.5f);
    multiply(part, MatrixView<Out>(out.data(), part.rows, n));
    return out;
  };
  const AlignedBuffer<Out> all = product(x);
  for (const int64_t m : {1, 2, 3, 7, 8, 12, 16, 31, 64, 100, 252, 255, 256, 411}) {
    for (const int64_t first : {int64_t{0}, int64_t{5}, x.rows - m}) {
      const AlignedBuffer<Out> some = product(x.RowBlock(first, m));
      EXPECT_EQ(std::memcmp(some.data(), all.data() + first * n,
                            static_cast<std::size_t>(m * n) * sizeof(Out)),
                0)
          << m << " rows from " << first;
    }
  }
}

struct PanelShape {
  int64_t rows, columns, panel_rows;
};
constexpr PanelShape kShapes[] = {{576, 1536, 0}, {576, 1536, 320}, {1025, 96, 0}, {64, 64, 0}};

TYPED_TEST(PackedMatrixTest, ARowDoesNotDependOnItsNeighbours) {
  using T = TypeParam;
  for (const PanelShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message()
                 << shape.rows << " x " << shape.columns << ", panels of " << shape.panel_rows);
    const AlignedBuffer<T> w = Random<T>(shape.rows * shape.columns, 1);
    const AlignedBuffer<T> x = Random<T>(512 * shape.columns, 2);
    const AlignedBuffer<float> bias = Random<float>(shape.rows, 3);
    const MatrixView<const T> rows(x.data(), 512, shape.columns);
    PackedMatrix<T> packed(shape.rows, shape.columns, shape.panel_rows);
    packed.Pack({w.data(), shape.rows, shape.columns});
    const AlignedBuffer<float> scales = Random<float>(shape.rows, 4);
    for (const int steps : {0, 1, 2, 3}) {
      packed.SetEpilogue(steps % 2 == 1 ? scales.span() : std::span<float>(),
                         steps >= 2 ? bias.span() : std::span<float>());
      ExpectRowsOfTheWhole<T, T>(rows, shape.rows,
                                 [&](auto part, auto out) { packed.Multiply(part, out); });
      ExpectRowsOfTheWhole<T, float>(rows, shape.rows,
                                     [&](auto part, auto out) { packed.MultiplyAdd(part, out); });
      ExpectRowsOfTheWhole<T, float>(rows, packed.panel_rows(), [&](auto part, auto out) {
        packed.MultiplyPanel(0, part, out);
      });
    }
  }
}

TYPED_TEST(PackedMatrixTest, ARowOfATransposedProductDoesNotDependOnItsNeighbours) {
  using T = TypeParam;
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{64, 64}, {128, 128}, {600, 96}}) {
    SCOPED_TRACE(testing::Message() << n << " x " << k);
    const AlignedBuffer<T> a = Random<T>(512 * k, 1);
    const AlignedBuffer<T> b = Random<T>(n * k, 2);
    ExpectRowsOfTheWhole<T, float>(
        MatrixView<const T>(a.data(), 512, k), n, [&](auto part, auto c) {
          ProductTransposed<T>(part, MatrixView<const T>(b.data(), n, k), c);
        });
  }
}

// Rows beyond those of x, and columns beside those of the product, are the caller's.
TYPED_TEST(PackedMatrixTest, WritesNothingBesideTheProduct) {
  using T = TypeParam;
  const int64_t rows = 300, columns = 64, m = 259, stride = 310;
  const AlignedBuffer<T> w = Random<T>(rows * columns, 1);
  const AlignedBuffer<T> x = Random<T>(m * columns, 2);
  PackedMatrix<T> packed(rows, columns);
  packed.Pack({w.data(), rows, columns});
  const MatrixView<const T> in(x.data(), m, columns);
  const auto expect_untouched = [&](const auto& multiply) {
    AlignedBuffer<float> out((m + 12) * stride);
    std::fill_n(out.data(), out.size(), 7.0f);
    multiply(MatrixView<float>(out.data(), m, rows, stride));
    for (int64_t i = 0; i < out.size(); ++i) {
      if (i >= m * stride || i % stride >= rows) {
        ASSERT_EQ(out[i], 7.0f) << i;
      }
    }
  };
  expect_untouched([&](auto out) { packed.MultiplyAdd(in, out); });
  expect_untouched([&](auto out) { packed.MultiplyPanel(0, in, out); });
  expect_untouched([&](auto out) {
    ProductTransposed<T>(in, MatrixView<const T>(w.data(), rows, columns), out);
  });
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
