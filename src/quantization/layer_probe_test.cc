#include "quantization/layer_probe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace narrow {
namespace {

constexpr int64_t kHidden = 16;
constexpr int64_t kTokens = 6;

LayerSpec Spec() {
  LayerSpec spec;
  spec.hidden = kHidden;
  spec.attention.heads = {1, 1, kHidden};
  spec.mlp->width = kHidden;
  for (const NormPlace place : {NormPlace::kBeforeAttention, NormPlace::kBeforeMlp}) {
    spec.Norm(place) = NormSpec{.weight = "norm", .size = kHidden, .epsilon = 0.0f};
  }
  return spec;
}

// `value` times the identity, over `blocks` blocks of rows; only the last block is not zero.
FusedLinear Diagonal(float value, int64_t blocks) {
  std::vector<float> weights(static_cast<std::size_t>(blocks * kHidden * kHidden), 0.0f);
  for (int64_t i = 0; i < kHidden; ++i) {
    const int64_t row = (blocks - 1) * kHidden + i;
    weights[static_cast<std::size_t>(row * kHidden + i)] = value;
  }
  PackedWeights packed(ComputeType::kFloat32, blocks * kHidden, kHidden);
  packed.Pack(MatrixView<const float>(weights.data(), blocks * kHidden, kHidden));
  return FusedLinear(std::move(packed), {blocks * kHidden});
}

// A layer that adds `factor` times the normed input to its input: every token is a text of its own,
// so that attention takes its value, which is the normed input. The MLP adds nothing.
DecoderLayer Layer(float factor) {
  DecoderLayer layer;
  layer.spec = Spec();
  const std::vector<float> ones(kHidden, 1.0f);
  for (std::size_t place = 0; place < kNormPlaceCount; ++place) {
    if (layer.spec.norms[place]) layer.norms[place] = Norm(*layer.spec.norms[place], ones);
  }
  layer.Linear(LinearGroup::kQueryKeyValue) = Diagonal(1.0f, 3);
  layer.Linear(LinearGroup::kAttentionOutput) = Diagonal(factor, 1);
  layer.Linear(LinearGroup::kGateUp) = Diagonal(0.0f, 2);
  layer.Linear(LinearGroup::kDown) = Diagonal(0.0f, 1);
  return layer;
}

// |x + c n| = |x| + c sqrt(hidden) for the normed input n = x sqrt(hidden) / |x|: a change of c by
// d changes the output by d sqrt(hidden).
TEST(LayerProbe, ErrorsAreThoseOfPlainArithmetic) {
  const RopeTables rope;
  std::vector<Sequence> sequences;
  std::vector<float> rows(kTokens * kHidden);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (float& value : rows) value = normal(random);
  for (int64_t i = 0; i < kTokens; ++i) sequences.push_back({i, 1});
  BatchWorkspace workspace;
  DecoderLayer layer = Layer(0.5f);
  LayerProbe probe(layer, rope, sequences, MatrixView<const float>(rows.data(), kTokens, kHidden),
                   workspace);
  layer.Linear(LinearGroup::kAttentionOutput) = Diagonal(0.75f, 1);
  probe.Step(LinearGroup::kAttentionOutput);
  probe.Step(LinearGroup::kGateUp);  // changes nothing
  layer.Linear(LinearGroup::kAttentionOutput) = Diagonal(0.625f, 1);
  probe.Step(std::nullopt);

  double relative = 0.0;  // mean of hidden / |output|^2
  for (int64_t i = 0; i < kTokens; ++i) {
    double squares = 0.0;
    for (int64_t k = 0; k < kHidden; ++k) {
      const double value = static_cast<double>(rows[static_cast<std::size_t>(i * kHidden + k)]);
      squares += value * value;
    }
    const double output = std::sqrt(squares) + 0.5 * std::sqrt(double{kHidden});
    relative += double{kHidden} / (output * output) / double{kTokens};
  }
  const LayerErrors errors = probe.Errors();
  EXPECT_NEAR(errors.Group(LinearGroup::kAttentionOutput) / relative, 0.25 * 0.25, 1e-5);
  EXPECT_EQ(errors.Group(LinearGroup::kGateUp), 0.0);
  EXPECT_EQ(errors.Group(LinearGroup::kDown), 0.0);
  EXPECT_NEAR(errors.cache / relative, 0.125 * 0.125, 1e-5);
  EXPECT_NEAR(errors.all / relative, 0.125 * 0.125, 1e-5);
  EXPECT_DOUBLE_EQ(errors.Sum(), errors.groups[1] + errors.cache);
  // What it leaves for the next layer is the original's output.
  const double first = static_cast<double>(probe.original_output().Row(0)[0]);
  double size = 0.0;
  for (int64_t k = 0; k < kHidden; ++k) {
    size += static_cast<double>(rows[static_cast<std::size_t>(k)]) *
            static_cast<double>(rows[static_cast<std::size_t>(k)]);
  }
  const double expected =
      static_cast<double>(rows[0]) * (1.0 + 0.5 * std::sqrt(double{kHidden}) / std::sqrt(size));
  EXPECT_NEAR(first, expected, 1e-5);
}

TEST(ProbeOf, TakesTheBeginningsOfTextsSpreadOverTheStream) {
  TokenStream stream;
  for (int32_t text = 0; text < 5; ++text) {
    stream.Append(std::vector<int32_t>(text == 2 ? 3 : 1000, text));
  }
  const TokenStream probe = ProbeOf(stream);
  ASSERT_EQ(probe.sequences.size(), std::size_t{kProbeSequences});
  EXPECT_EQ(probe.tokens.front(), 0);
  EXPECT_EQ(probe.tokens.back(), 2);
  EXPECT_EQ(probe.sequences[0].count, kProbeTokens);
  EXPECT_EQ(probe.sequences[1].count, 3);
  EXPECT_EQ(probe.size(), kProbeTokens + 3);
}

}  // namespace
}  // namespace narrow
