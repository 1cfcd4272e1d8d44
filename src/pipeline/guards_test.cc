#include "pipeline/guards.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace narrow {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr TokenVariety kVaried = {46026, 9000, 49152};

LinearFacts Linear(int layer, const char* name, float scale, float input_scale) {
  LinearFacts linear;
  linear.module = fmt::format("model.layers.{}.{}", layer, name);
  linear.weight_scale = scale;
  linear.weight_amax = 448 * scale;
  linear.input_scale = input_scale;
  linear.input_amax = 448 * input_scale;
  linear.elements = 100'000;
  return linear;
}

// Layers whose scales spread by a factor of 1.5, as those of trained networks do.
std::vector<LayerFacts> Ordinary(int layers) {
  std::vector<LayerFacts> facts;
  for (int i = 0; i < layers; ++i) {
    const float spread = 1.0F + 0.1F * static_cast<float>(i % 6);
    LayerFacts& layer = facts.emplace_back();
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}) {
      layer.linears.push_back(Linear(i, name, 0.004F * spread, 0.016F * spread));
    }
    layer.linears.push_back(Linear(i, "mlp.down_proj", 0.007F * spread, 0.08F * spread));
    layer.cache = {fmt::format("model.layers.{}.self_attn", i), 20, 0.04F * spread, 7,
                   0.016F * spread};
  }
  return facts;
}

TEST(Guards, AreSilentOnAnOrdinaryModel) {
  EXPECT_THAT(QuantizationWarnings(Ordinary(30), kVaried), IsEmpty());
}

TEST(Guards, SaturationAboveTheLimit) {
  std::vector<LayerFacts> layers = Ordinary(6);
  layers[2].linears[3].saturated = 100;  // one in a thousand: allowed
  EXPECT_THAT(QuantizationWarnings(layers, kVaried), IsEmpty());
  layers[2].linears[3].saturated = 250;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(AllOf(HasSubstr("model.layers.2.mlp.down_proj: 0.25 % of the weights"),
                                HasSubstr("--exclude_layers model.layers.2.mlp.down_proj"))));
}

TEST(Guards, RemedyNamesTheWholeFusedGroup) {
  std::vector<LayerFacts> layers = Ordinary(6);
  layers[1].linears[1].saturated = 1000;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(AllOf(
                  HasSubstr("model.layers.1.self_attn.k_proj: 1.00 %"),
                  HasSubstr("--exclude_layers model.layers.1.self_attn.q_proj "
                            "model.layers.1.self_attn.k_proj model.layers.1.self_attn.v_proj"),
                  Not(HasSubstr("down_proj")))));
}

TEST(Guards, ScaleBelowTheFloat16Step) {
  std::vector<LayerFacts> layers = Ordinary(4);  // too few to know what is usual
  layers[3].linears[0].weight_scale = kSmallestExactScale;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried), IsEmpty());
  layers[3].linears[0].weight_scale = 3e-5F;
  EXPECT_THAT(
      QuantizationWarnings(layers, kVaried),
      ElementsAre(AllOf(HasSubstr("model.layers.3.self_attn.q_proj: the weight scale 3e-05"),
                        HasSubstr("--exclude_layers"))));
}

TEST(Guards, InputThatWasAlwaysZero) {
  std::vector<LayerFacts> layers = Ordinary(6);
  layers[5].linears[3].input_amax = 0.0F;
  layers[5].linears[3].input_scale = 1e-9F;  // whatever it got: told once
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(AllOf(HasSubstr("model.layers.5.mlp.down_proj: its input was zero"),
                                HasSubstr("--num_calib_data"))));
}

TEST(Guards, ScaleFarFromItsNeighbours) {
  std::vector<LayerFacts> layers = Ordinary(30);
  layers[7].linears[3].input_scale = 0.104F * 15;  // the median is 0.104
  EXPECT_THAT(QuantizationWarnings(layers, kVaried), IsEmpty());
  layers[7].linears[3].input_scale = 0.104F * 40;
  layers[9].cache->value_scale = 0.0192F / 100;
  EXPECT_THAT(
      QuantizationWarnings(layers, kVaried),
      ElementsAre(AllOf(HasSubstr("model.layers.9.self_attn: the V scale"),
                        HasSubstr("100 times smaller"), HasSubstr("--kv_cache_dtype")),
                  AllOf(HasSubstr("model.layers.7.mlp.down_proj: the input scale of down_proj"),
                        HasSubstr("40 times larger"), HasSubstr("--exclude_layers"))));
}

TEST(Guards, ScalesThatVaryAnywayAreNoOutliers) {
  std::vector<LayerFacts> layers = Ordinary(30);
  float scale = 1e-3F;
  for (LayerFacts& layer : layers) layer.linears[3].input_scale = scale *= 1.5F;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried), IsEmpty());
}

TEST(Guards, FusedLinearsAreOneOutlier) {
  std::vector<LayerFacts> layers = Ordinary(30);
  for (int i = 0; i < 3; ++i) layers[4].linears[i].input_scale = 2.0F;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(HasSubstr("model.layers.4.self_attn.q_proj: the input scale")));
}

TEST(Guards, CalibrationTextOfFewTokens) {
  EXPECT_THAT(QuantizationWarnings(Ordinary(6), {46026, kFewDistinctTokens, 49152}), IsEmpty());
  EXPECT_THAT(QuantizationWarnings(Ordinary(6), {46026, 511, 49152}),
              ElementsAre(AllOf(HasSubstr("only 511 distinct tokens among 46026"),
                                HasSubstr("--num_calib_data"))));
  EXPECT_THAT(QuantizationWarnings(Ordinary(6), {5000, 64, 256}), IsEmpty());
  EXPECT_THAT(QuantizationWarnings(Ordinary(6), {5000, 63, 256}), SizeIs(1));
}

TEST(Guards, NineSentencesAreTheMost) {
  std::vector<LayerFacts> layers = Ordinary(60);
  for (int i = 0; i < 20; ++i) {
    for (LinearFacts& linear : layers[i].linears) {
      linear.saturated = 5000 + i;
      linear.weight_scale = 1e-6F;
      linear.input_amax = 0;
    }
  }
  const std::vector<std::string> warnings = QuantizationWarnings(layers, {5, 1, 49152});
  EXPECT_THAT(warnings, SizeIs(9));
  EXPECT_THAT(warnings[1], HasSubstr("model.layers.19."));  // the worst first
  EXPECT_THAT(warnings[2], HasSubstr("(78 more linears like these"));
}

TEST(Guards, CountsDistinctTokens) {
  TokenStream stream;
  stream.Append(std::vector<int32_t>{3, 1, 3, 3});
  stream.Append(std::vector<int32_t>{1, 7});
  const TokenVariety variety = CountVariety(stream, 8);
  EXPECT_EQ(variety.tokens, 6);
  EXPECT_EQ(variety.distinct, 3);
  EXPECT_EQ(variety.vocabulary, 8);
}

}  // namespace
}  // namespace narrow
