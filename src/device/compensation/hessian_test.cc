#include "device/compensation/hessian.h"

#include <gtest/gtest.h>

#include <random>
#include <type_traits>
#include <vector>

#include "base/parallel.h"
#include "kernels/products_test.h"

namespace narrow {
namespace {

template <typename T>
std::vector<T> Tokens(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<T> values(count);
  for (T& value : values) {
    const Bfloat16 rounded = ToBfloat16(normal(generator));
    if constexpr (std::is_same_v<T, float>) {
      value = ToFloat(rounded);
    } else {
      value = rounded;
    }
  }
  return values;
}

float AsFloat(float value) { return value; }
float AsFloat(Bfloat16 value) { return ToFloat(value); }

template <typename T>
class HessianTest : public TestWithProducts<T> {};
using InputTypes = testing::Types<float, Bfloat16>;
TYPED_TEST_SUITE(HessianTest, InputTypes);

TYPED_TEST(HessianTest, BlocksAreSumsOfProducts) {
  using T = TypeParam;
  const int64_t tokens = 700, columns = 330;
  const std::vector<T> x = Tokens<T>(tokens * columns, 1);
  HessianAccumulator hessian(columns, 256);
  hessian.Add(MatrixView<const T>(x.data(), tokens, columns));
  EXPECT_EQ(hessian.tokens(), tokens);
  const auto blocks = hessian.TakeBlocks();
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(blocks[0].columns, 256);
  EXPECT_EQ(blocks[1].first_column, 256);
  for (const auto& block : blocks) {
    for (int64_t i = 0; i < block.columns; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0.0;
        for (int64_t t = 0; t < tokens; ++t) {
          const T* row = x.data() + t * columns + block.first_column;
          sum += static_cast<double>(AsFloat(row[i])) * AsFloat(row[j]);
        }
        ASSERT_NEAR(block.values[i * block.columns + j], sum, 1e-3) << i << ", " << j;
      }
    }
  }
}

TYPED_TEST(HessianTest, SumsDependNeitherOnCallsNorOnThreads) {
  using T = TypeParam;
  const int64_t tokens = 4700, columns = 300;
  const std::vector<T> x = Tokens<T>(tokens * columns, 2);
  const MatrixView<const T> rows(x.data(), tokens, columns);
  HessianAccumulator whole(columns);
  SetThreadCount(1);
  whole.Add(rows);
  const auto expected = whole.TakeBlocks();
  SetThreadCount(3);
  HessianAccumulator parts(columns);
  for (int64_t first = 0; first < tokens; first += 611) {
    parts.Add(rows.RowBlock(first, std::min<int64_t>(611, tokens - first)));
  }
  const auto found = parts.TakeBlocks();
  SetThreadCount(0);
  for (int64_t i = 0; i < columns; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      ASSERT_EQ(found[0].values[i * columns + j], expected[0].values[i * columns + j]);
    }
  }
}

// Sums of mixed inputs are mixed sums, in whole matrices and in blocks.
TEST(HessianBasisTest, ChangingTheBasisIsChangingTheInputs) {
  const int64_t tokens = 600, columns = 384, part = 32;
  const std::vector<float> x = Tokens<float>(tokens * columns, 3);
  const std::vector<float> matrices = Tokens<float>(columns * part, 4);
  const auto matrix = [&](int64_t p) {
    return MatrixView<const float>(matrices.data() + p * part * part, part, part);
  };
  std::vector<float> mixed(x.size());
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < columns; ++c) {
      double sum = 0.0;
      for (int64_t k = 0; k < part; ++k) {
        sum += static_cast<double>(matrix(c / part).Row(c % part)[k]) *
               x[t * columns + c / part * part + k];
      }
      mixed[t * columns + c] = static_cast<float>(sum);
    }
  }
  for (const int64_t widest : {int64_t{0}, int64_t{128}}) {
    HessianAccumulator expected(columns, widest), found(columns, widest);
    expected.Add(MatrixView<const float>(mixed.data(), tokens, columns));
    found.Add(MatrixView<const float>(x.data(), tokens, columns));
    found.ChangeBasis(part, matrix);
    const auto expected_blocks = expected.TakeBlocks(), found_blocks = found.TakeBlocks();
    for (std::size_t b = 0; b < expected_blocks.size(); ++b) {
      const int64_t n = expected_blocks[b].columns;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          const float value = expected_blocks[b].values[i * n + j];
          ASSERT_NEAR(found_blocks[b].values[i * n + j], value, 0.1f) << b << i << j;
        }
      }
    }
  }
}

TEST(HessianBasisTest, SquaresAreThoseOfTheirColumns) {
  const int64_t tokens = 300, columns = 300;
  const std::vector<float> x = Tokens<float>(tokens * columns, 5);
  HessianAccumulator hessian(columns, 128);
  hessian.Add(MatrixView<const float>(x.data(), tokens, columns));
  std::vector<double> square(64 * 64, 1.0);
  hessian.AddSquareTo(192, {square.data(), 64, 64});
  for (int64_t i = 0; i < 64; ++i) {
    for (int64_t j = 0; j < 64; ++j) {
      double sum = 1.0;
      for (int64_t t = 0; t < tokens; ++t) {
        sum += static_cast<double>(x[t * columns + 192 + i]) * x[t * columns + 192 + j];
      }
      ASSERT_NEAR(square[i * 64 + j], sum, 1e-3);
    }
  }
}

TEST(HessianBytesTest, BytesCoverBlocksAndBatch) {
  EXPECT_EQ(HessianAccumulator::Bytes(100, 0, ComputeType::kFloat32),
            100 * 100 * 4 + 2 * 4096 * 100 * 4);
  EXPECT_EQ(HessianAccumulator::Bytes(53248, 16384, ComputeType::kBfloat16),
            4LL * 13312 * 13312 * 4 + 2 * 512 * 53248 * 2);
}

}  // namespace
}  // namespace narrow
