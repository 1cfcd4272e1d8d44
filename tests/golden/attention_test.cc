// Attention of FP8 queries, keys, values and probabilities against the same in PyTorch
// (tests/golden/float8_attention.json, made by tools/goldens/make_references.py).
#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/float8.h"
#include "kernels/products_test.h"
#include "model/reference.h"
#include "tests/support/random.h"

namespace narrow {
namespace {

struct Drawn {
  std::vector<float> values;  // E4M3 numbers, as the products read them
  int64_t tokens = 0;

  template <typename T>
  std::vector<T> As() const {
    std::vector<T> converted(values.size());
    FromFloats(values, std::span<T>(converted));
    return converted;
  }
};

Drawn Draw(Random& random, int64_t tokens, int64_t width, float scale, int64_t largest) {
  Drawn drawn{{}, tokens};
  for (int64_t i = 0; i < tokens * width; ++i) {
    const auto steps =
        static_cast<int64_t>((random.Bits() >> 48) % static_cast<uint64_t>(32 * largest)) -
        16 * largest;
    drawn.values.push_back(static_cast<float>(steps) *
                           static_cast<float>(static_cast<double>(scale) / 16));
  }
  RoundToFloat8Grid(std::span<float>(drawn.values), scale);
  return drawn;
}

template <typename T>
class Float8Attention : public TestWithProducts<T> {};
using OperandTypes = testing::Types<float, Bfloat16>;
TYPED_TEST_SUITE(Float8Attention, OperandTypes);

TYPED_TEST(Float8Attention, IsThatOfPyTorch) {
  const Json json = ReadReference("float8_attention.json");
  const AttentionHeads heads = {json["query_heads"], json["key_value_heads"], json["head_size"]};
  ASSERT_EQ(json["key_block"], kAttentionKeyBlock);
  std::vector<Sequence> sequences;
  int64_t tokens = 0;
  for (const int64_t count : json["tokens"]) {
    sequences.push_back({tokens, count});
    tokens += count;
  }
  Random random(json["seed"].get<uint64_t>());
  const float query_scale = json["query_scale"], key_scale = json["key_scale"];
  const float value_scale = json["value_scale"];
  const auto q = Draw(random, tokens, heads.query_width(), query_scale, 500).As<TypeParam>();
  const auto k = Draw(random, tokens, heads.key_value_width(), key_scale, 60).As<TypeParam>();
  const auto v = Draw(random, tokens, heads.key_value_width(), value_scale, 100).As<TypeParam>();
  const auto view = [&](const std::vector<TypeParam>& values) {
    return MatrixView<const TypeParam>(values.data(), tokens, std::ssize(values) / tokens);
  };
  std::vector<TypeParam> out(q.size());
  CausalAttention<TypeParam>(
      heads, sequences, view(q), view(k), view(v), query_scale * key_scale / std::sqrt(16.0f),
      value_scale, {out.data(), tokens, heads.query_width()}, ProbabilityRounding::kFloat8);
  // An exponential that differs in its last bits rounds the other way now and then: one step of one
  // probability. Outputs are up to 1.7.
  const double usual = std::is_same_v<TypeParam, float> ? 2e-6 : 4e-3;
  std::size_t row = 0, compared = 0, near = 0;
  for (const int64_t token : json["shown"]) {
    const std::vector<float> expected = Floats(json["outputs"][row++]);
    std::vector<float> found(expected.size());
    ToFloats(view(out).RowSpan(token), found);
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double difference = std::fabs(static_cast<double>(found[i]) - expected[i]);
      ASSERT_LT(difference, 0.01) << "token " << token << ", channel " << i;
      near += difference < usual ? 1 : 0;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 10u * 64u);
  EXPECT_GE(near, compared * 9 / 10);
}

}  // namespace
}  // namespace narrow
