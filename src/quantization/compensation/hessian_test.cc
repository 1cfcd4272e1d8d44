#include "quantization/compensation/hessian.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/parallel.h"

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
class HessianTest : public testing::Test {};
using InputTypes = testing::Types<float, Bfloat16>;
TYPED_TEST_SUITE(HessianTest, InputTypes);

TYPED_TEST(HessianTest, BlocksAreSumsOfProducts) {
  using T = TypeParam;
  const int64_t tokens = 700, columns = 330;
  const std::vector<T> x = Tokens<T>(tokens * columns, 1);
  HessianAccumulator hessian(columns, 200);
  hessian.Add(MatrixView<const T>(x.data(), tokens, columns));
  EXPECT_EQ(hessian.tokens(), tokens);
  const auto blocks = hessian.TakeBlocks();
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(blocks[0].columns, 192);
  EXPECT_EQ(blocks[1].first_column, 192);
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

TEST(HessianBytesTest, BytesCoverBlocksAndBatch) {
  EXPECT_EQ(HessianAccumulator::Bytes<float>(100), 100 * 100 * 4 + 2 * 4096 * 100 * 4);
  EXPECT_EQ(HessianAccumulator::Bytes<Bfloat16>(53248, 16384),
            4LL * 13312 * 13312 * 4 + 2 * 512 * 53248 * 2);
}

}  // namespace
}  // namespace narrow
