#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/parallel.h"

namespace narrow {
namespace {

struct Problem {
  AttentionHeads heads;
  std::vector<Sequence> sequences;
  int64_t tokens = 0;
  std::vector<float> q, k, v;

  Problem(AttentionHeads shape, const std::vector<int64_t>& lengths) : heads(shape) {
    for (const int64_t length : lengths) {
      sequences.push_back({tokens, length});
      tokens += length;
    }
    std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, int64_t width) {
      values.resize(static_cast<std::size_t>(tokens * width));
      for (float& value : values) value = normal(generator);
    };
    fill(q, heads.query_heads * heads.head_size);
    fill(k, heads.key_value_heads * heads.head_size);
    fill(v, heads.key_value_heads * heads.head_size);
  }

  MatrixView<const float> View(const std::vector<float>& values) const {
    return {values.data(), tokens, static_cast<int64_t>(values.size()) / tokens};
  }

  std::vector<float> Run(const AttentionScores& scoring, float value_scale) const {
    std::vector<float> out(q.size());
    CausalAttention<float>(heads, sequences, View(q), View(k), View(v), scoring, value_scale,
                           {out.data(), tokens, heads.query_heads * heads.head_size});
    return out;
  }

  // softmax(score(q, k)) v, written down directly in f64.
  std::vector<double> Reference(const AttentionScores& scoring, double value_scale) const {
    std::vector<double> out(q.size());
    const int64_t size = heads.head_size;
    const int64_t group = heads.query_heads / heads.key_value_heads;
    for (const Sequence& sequence : sequences) {
      for (int64_t i = 0; i < sequence.count; ++i) {
        for (int64_t head = 0; head < heads.query_heads; ++head) {
          const float* query = View(q).Row(sequence.first + i) + head * size;
          std::vector<double> weights(static_cast<std::size_t>(i + 1));
          double sum = 0;
          const int64_t first =
              scoring.window == 0 ? 0 : std::max<int64_t>(0, i + 1 - scoring.window);
          for (int64_t j = first; j <= i; ++j) {
            const float* key = View(k).Row(sequence.first + j) + head / group * size;
            double dot = 0;
            for (int64_t e = 0; e < size; ++e) dot += static_cast<double>(query[e]) * key[e];
            double score = dot * double{scoring.scale};
            const double cap = double{scoring.softcap};
            if (cap > 0.0) score = cap * std::tanh(score / cap);
            weights[static_cast<std::size_t>(j)] = std::exp(score);
            sum += weights[static_cast<std::size_t>(j)];
          }
          double* result = out.data() + ((sequence.first + i) * heads.query_heads + head) * size;
          for (int64_t j = 0; j <= i; ++j) {
            const float* value = View(v).Row(sequence.first + j) + head / group * size;
            for (int64_t e = 0; e < size; ++e) {
              result[e] += weights[static_cast<std::size_t>(j)] / sum * value[e] * value_scale;
            }
          }
        }
      }
    }
    return out;
  }
};

TEST(CausalAttention, MatchesTheDefinitionAcrossBlockEdges) {
  // Lengths around the query block (128) and key block (512), and a lone token.
  const Problem problem({4, 2, 16}, {1, 127, 128, 129, 513, 640});
  const std::vector<float> out = problem.Run(0.25f, 3.0f);
  const std::vector<double> reference = problem.Reference(0.25f, 3.0);
  for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], reference[i], 5e-5) << i;
}

// Windows that end within a key block (512), at its edge, and beyond; shorter and longer texts.
TEST(CausalAttention, WindowsAndCapsAreThoseOfTheDefinition) {
  const Problem problem({2, 1, 16}, {1, 40, 512, 700, 1100});
  for (const AttentionScores& scoring :
       {AttentionScores(0.25f, 1), AttentionScores(0.25f, 64), AttentionScores(0.25f, 512),
        AttentionScores(0.25f, 600), AttentionScores(0.25f, 0, 1.5f),
        AttentionScores(0.25f, 100, 1.5f)}) {
    const std::vector<float> out = problem.Run(scoring, 2.0f);
    const std::vector<double> reference = problem.Reference(scoring, 2.0);
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], reference[i], 5e-5) << scoring.window << " " << scoring.softcap;
    }
  }
}

TEST(CausalAttention, ResultDoesNotDependOnThreadsOrNeighbours) {
  const AttentionHeads heads = {6, 3, 64};
  const Problem problem(heads, {300, 200});
  SetThreadCount(1);
  const std::vector<float> one = problem.Run(0.125f, 1.0f);
  for (const int threads : {2, 3, 5}) {
    SetThreadCount(threads);
    EXPECT_EQ(problem.Run(0.125f, 1.0f), one) << threads << " threads";
  }
  SetThreadCount(0);
  Problem second = problem;
  second.sequences = {{0, 300}};
  const std::vector<float> alone = second.Run(0.125f, 1.0f);
  EXPECT_TRUE(std::equal(one.begin(), one.begin() + 300 * 6 * 64, alone.begin()));
}

TEST(CausalAttention, FlopsAreTheCausalHalf) {
  // 2 heads of 8: each of the 1 + 2 + 3 pairs costs 2 * 8 for the score and 2 * 8 for the value.
  EXPECT_EQ(CausalAttentionFlops({2, 1, 8}, 3, 0), 2 * 6 * 32);
  EXPECT_EQ(CausalAttentionFlops({2, 1, 8}, 3, 2), 2 * 5 * 32);
}

}  // namespace
}  // namespace narrow
