#include "quantization/warnings.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

namespace narrow {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

const std::map<WeightRole, std::string> kNames = {{WeightRole::kQuery, "wq"},
                                                  {WeightRole::kKey, "a.wk"},
                                                  {WeightRole::kValue, "wv.linear"},
                                                  {WeightRole::kDown, "wq.w2"}};
constexpr TokenVariety kVaried = {46026, 9000, 49152};

// Names say nothing: only roles and groups do.
LinearFacts Linear(int layer, WeightRole role, float scale, float input_scale) {
  LinearFacts linear;
  linear.role = role;
  linear.group = role == WeightRole::kDown ? LinearGroup::kDown : LinearGroup::kQueryKeyValue;
  linear.module = fmt::format("blocks.{}.{}", layer, kNames.at(role));
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
    for (const WeightRole role : {WeightRole::kQuery, WeightRole::kKey, WeightRole::kValue}) {
      layer.linears.push_back(Linear(i, role, 0.004F * spread, 0.016F * spread));
    }
    layer.linears.push_back(Linear(i, WeightRole::kDown, 0.007F * spread, 0.08F * spread));
    layer.cache = {fmt::format("blocks.{}.attention", i), 20, 0.04F * spread, 7, 0.016F * spread};
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
              ElementsAre(AllOf(HasSubstr("blocks.2.wq.w2: 0.25 % of the weights"),
                                HasSubstr("--exclude_layers blocks.2.wq.w2"))));
}

TEST(Guards, RemedyNamesTheWholeFusedGroup) {
  std::vector<LayerFacts> layers = Ordinary(6);
  layers[1].linears[1].saturated = 1000;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(AllOf(HasSubstr("blocks.1.a.wk: 1.00 %"),
                                HasSubstr("--exclude_layers blocks.1.wq "
                                          "blocks.1.a.wk blocks.1.wv.linear"),
                                Not(HasSubstr("wq.w2")))));
}

TEST(Guards, ScaleBelowTheFloat16Step) {
  std::vector<LayerFacts> layers = Ordinary(4);  // too few to know what is usual
  layers[3].linears[0].weight_scale = kSmallestExactScale;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried), IsEmpty());
  layers[3].linears[0].weight_scale = 3e-5F;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(AllOf(HasSubstr("blocks.3.wq: the weight scale 3e-05"),
                                HasSubstr("--exclude_layers"))));
}

TEST(Guards, InputThatWasAlwaysZero) {
  std::vector<LayerFacts> layers = Ordinary(6);
  layers[5].linears[3].input_amax = 0.0F;
  layers[5].linears[3].input_scale = 1e-9F;  // whatever it got: told once
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(AllOf(HasSubstr("blocks.5.wq.w2: its input was zero"),
                                HasSubstr("--num_calib_data"))));
}

TEST(Guards, ScaleFarFromItsNeighbours) {
  std::vector<LayerFacts> layers = Ordinary(30);
  layers[7].linears[3].input_scale = 0.104F * 15;  // the median is 0.104
  EXPECT_THAT(QuantizationWarnings(layers, kVaried), IsEmpty());
  layers[7].linears[3].input_scale = 0.104F * 40;
  layers[9].cache->value_scale = 0.0192F / 100;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(AllOf(HasSubstr("blocks.9.attention: the V scale"),
                                HasSubstr("100 times smaller"), HasSubstr("--kv_cache_dtype")),
                          AllOf(HasSubstr("blocks.7.wq.w2: the input scale 4.16"),
                                HasSubstr("40 times larger"), HasSubstr("--exclude_layers"))));
}

// Scales are powers of two as a rule: the limit itself must not depend on the last bit of a
// logarithm.
TEST(Guards, TheLimitIsExactForPowersOfTwo) {
  for (int exponent = -20; exponent <= 20; ++exponent) {
    std::vector<LayerFacts> layers = Ordinary(30);
    for (LayerFacts& layer : layers) layer.linears[3].input_scale = std::ldexp(1.0F, exponent);
    layers[7].linears[3].input_scale = std::ldexp(1.0F, exponent + 3);
    EXPECT_THAT(QuantizationWarnings(layers, kVaried), IsEmpty()) << exponent;
    layers[7].linears[3].input_scale = std::ldexp(1.0F, exponent + 4);
    EXPECT_THAT(QuantizationWarnings(layers, kVaried), SizeIs(1)) << exponent;
    layers[7].linears[3].input_scale = std::ldexp(1.0F, exponent - 4);
    EXPECT_THAT(QuantizationWarnings(layers, kVaried), SizeIs(1)) << exponent;
  }
}

// A group is no outlier, nor hidden, because another one has the same scale.
TEST(Guards, EqualScalesOfOtherGroupsHideNothing) {
  std::vector<LayerFacts> layers = Ordinary(30);
  for (LayerFacts& layer : layers) {
    for (LinearFacts& linear : layer.linears) linear.input_scale = 0.125F;
  }
  for (LinearFacts& linear : layers[4].linears) linear.input_scale = 4.0F;
  EXPECT_THAT(QuantizationWarnings(layers, kVaried),
              ElementsAre(HasSubstr("blocks.4.wq: the input scale 4 is 32 times larger"),
                          AllOf(HasSubstr("blocks.4.wq.w2: the input scale 4 is 32 times larger"),
                                Not(HasSubstr("blocks.4.a.wk")))));
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
              ElementsAre(HasSubstr("blocks.4.wq: the input scale")));
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
  EXPECT_THAT(warnings[1], HasSubstr("blocks.19."));  // the worst first
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
