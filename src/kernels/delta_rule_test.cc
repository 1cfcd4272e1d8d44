#include "kernels/delta_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace narrow {
namespace {

struct Text {
  int64_t tokens, key_size, value_size;
  std::vector<float> q, k, v, log_decay, beta;

  Text(int64_t count, int64_t keys, int64_t values, float decay)
      : tokens(count), key_size(keys), value_size(values) {
    std::mt19937 random(static_cast<unsigned>(count));
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform;
    const auto fill = [&](std::vector<float>& x, int64_t width) {
      x.resize(static_cast<std::size_t>(count * width));
      std::ranges::generate(x, [&] { return normal(random); });
    };
    fill(q, keys);
    fill(k, keys);
    fill(v, values);
    for (int64_t t = 0; t < count; ++t) {
      float* key = k.data() + t * keys;
      float squares = 0.0f;
      for (int64_t c = 0; c < keys; ++c) squares += key[c] * key[c];
      for (int64_t c = 0; c < keys; ++c) key[c] /= std::sqrt(squares);
      log_decay.push_back(-decay * uniform(random));
      beta.push_back(uniform(random));
    }
  }

  std::vector<float> ByChunks() const {
    std::vector<float> out(v.size());
    DeltaRule rule(key_size, value_size);
    for (int64_t first = 0; first < tokens; first += kDeltaChunk) {
      const int64_t n = std::min(kDeltaChunk, tokens - first);
      const auto part = [&](const std::vector<float>& x) {
        return std::span(x).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
      };
      rule.Step({q.data() + first * key_size, n, key_size},
                {k.data() + first * key_size, n, key_size},
                {v.data() + first * value_size, n, value_size}, part(log_decay), part(beta),
                {out.data() + first * value_size, n, value_size});
    }
    return out;
  }

  // The definition, in f64.
  std::vector<double> ByTokens() const {
    std::vector<double> state(static_cast<std::size_t>(key_size * value_size));
    std::vector<double> out;
    for (int64_t t = 0; t < tokens; ++t) {
      const auto i = static_cast<std::size_t>(t);
      for (double& s : state) s *= std::exp(static_cast<double>(log_decay[i]));
      std::vector<double> at(static_cast<std::size_t>(value_size)), read(at.size());
      const auto each = [&](const auto& visit) {
        for (int64_t a = 0; a < key_size; ++a) {
          for (int64_t b = 0; b < value_size; ++b) {
            visit(static_cast<std::size_t>(t * key_size + a), static_cast<std::size_t>(b),
                  state[static_cast<std::size_t>(a * value_size + b)]);
          }
        }
      };
      each([&](std::size_t a, std::size_t b, double s) { at[b] += double{k[a]} * s; });
      each([&](std::size_t a, std::size_t b, double& s) {
        s += double{k[a]} * double{beta[i]} *
             (double{v[i * static_cast<std::size_t>(value_size) + b]} - at[b]);
      });
      each([&](std::size_t a, std::size_t b, double s) { read[b] += double{q[a]} * s; });
      out.insert(out.end(), read.begin(), read.end());
    }
    return out;
  }
};

TEST(DeltaRule, ChunksAreTheRecurrence) {
  for (const int64_t tokens : {1, 17, 64, 65, 200}) {
    for (const float decay : {0.0f, 0.1f, 30.0f}) {
      const Text text(tokens, 24, 40, decay);
      const std::vector<float> chunks = text.ByChunks();
      const std::vector<double> expected = text.ByTokens();
      for (std::size_t i = 0; i < chunks.size(); ++i) {
        ASSERT_NEAR(chunks[i], expected[i], 1e-3) << tokens << ' ' << decay << ' ' << i;
      }
    }
  }
}

TEST(DeltaRule, ATextBeginsWithoutState) {
  const Text text(70, 16, 16, 0.1f);
  DeltaRule rule(16, 16);
  std::vector<float> first(16 * 16), again(first.size());
  const auto step = [&](std::vector<float>& out) {
    rule.Step({text.q.data(), 16, 16}, {text.k.data(), 16, 16}, {text.v.data(), 16, 16},
              std::span(text.log_decay).first(16), std::span(text.beta).first(16),
              {out.data(), 16, 16});
  };
  step(first);
  step(again);
  EXPECT_NE(first, again);
  rule.Reset();
  step(again);
  EXPECT_EQ(first, again);
}

}  // namespace
}  // namespace narrow
