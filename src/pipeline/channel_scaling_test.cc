#include "pipeline/channel_scaling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "io/scratch_directory.h"
#include "model/rope.h"
#include "pipeline/layer_quantizer.h"
#include "pipeline/model_source.h"
#include "pipeline/stored_layer.h"
#include "pipeline/synthesize.h"
#include "pipeline/token_stream.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

constexpr int64_t kTokens = 48;

class ChannelScalingTest : public testing::Test {
 protected:
  ChannelScalingTest() {
    SynthesizeRequest request;
    request.output_directory = scratch_.path() / "model";
    request.config = PresetConfig("tiny");
    request.config_name = "preset tiny";
    SilentProgress progress;
    RunSynthesize(request, progress);
    model_.emplace(OpenModel(request.output_directory, WeightState::kOriginal));
  }

  const DecoderConfig& config() const { return model_->config; }

  LoadedLayer<float> Load() const {
    return LoadedLayer<float>(OpenLayer(*model_->checkpoint, *model_->family, config(), 0, 1 << 30),
                              FindQuantizationScheme("fp8"));
  }

  // Hidden states that the layer makes of random ones.
  HiddenStates Forward(const LoadedLayer<float>& layer, LayerObserver<float>* observer = nullptr) {
    std::mt19937 generator(5);
    std::normal_distribution<float> normal;
    HiddenStates hidden(kTokens, config().hidden);
    for (float& value : hidden.data.span()) value = normal(generator);
    const RopeTable rope(config().rope, config().heads.head_size, kTokens);
    const Sequence sequences[] = {{0, kTokens}};
    ForwardLayer<float>(config(), rope, layer.runnable(), sequences, hidden.view(), workspace_,
                        observer);
    return hidden;
  }

  LayerStatistics Calibrate(const LoadedLayer<float>& layer,
                            const LayerQuantizationOptions& options) {
    LayerCalibration<float> calibration = MakeCalibration<float>(layer.spec(), config(), options);
    calibration.BeginBatch(0, kTokens);
    Forward(layer, &calibration);
    calibration.EndBatch();
    return calibration.Take(layer.spec());
  }

  ScratchDirectory scratch_;
  std::optional<ModelSource> model_;
  BatchWorkspace<float> workspace_;
};

std::vector<float> RandomFactors(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(0.71f, 1.41f);
  std::vector<float> factors(static_cast<std::size_t>(count));
  for (float& factor : factors) factor = uniform(generator);
  return factors;
}

double RootMeanSquareDifference(const HiddenStates& a, const HiddenStates& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.data.size(); ++i) {
    sum += std::pow(static_cast<double>(a.data[i]) - b.data[i], 2);
  }
  return std::sqrt(sum / static_cast<double>(a.data.size()));
}

// Any factors, as long as they are undone behind: with nothing rounded, the layer is the same
// function. K and V heads are shared and rotated, which the factors must respect.
TEST_F(ChannelScalingTest, ScaledLayerIsTheSameFunction) {
  const HiddenStates expected = Forward(Load());
  LayerScaling scaling;
  scaling.attention_input = RandomFactors(config().hidden, 1);
  scaling.mlp_input = RandomFactors(config().hidden, 2);
  scaling.values = RandomFactors(config().key_value_width(), 3);
  scaling.activation = RandomFactors(config().intermediate, 4);
  scaling.keys = RandomFactors(config().key_value_width(), 5);
  const int64_t half = config().heads.head_size / 2;
  for (int64_t c = 0; c < config().key_value_width(); ++c) {
    if (c % config().heads.head_size >= half) {
      scaling.keys[static_cast<std::size_t>(c)] = scaling.keys[static_cast<std::size_t>(c - half)];
    }
  }
  LoadedLayer<float> layer = Load();
  using Norm = LoadedLayer<float>::Norm;
  scaling.attention_input = layer.NormFactors(Norm::kAttention, scaling.attention_input);
  scaling.mlp_input = layer.NormFactors(Norm::kMlp, scaling.mlp_input);
  layer.ScaleNorm(Norm::kAttention, scaling.attention_input);
  layer.ScaleNorm(Norm::kMlp, scaling.mlp_input);
  GroupQuantization unquantized;
  unquantized.inputs = GroupQuantization::Inputs::kOriginal;
  for (const LinearGroup group : kLinearGroups) {
    const WeightFactors factors = FactorsOf(scaling, layer.Linears(group), config());
    layer.Quantize(group, unquantized, [&](int64_t first_row, MatrixView<float> rows) {
      factors.Apply(first_row, rows);
    });
  }
  EXPECT_LT(RootMeanSquareDifference(Forward(layer), expected), 2e-5);
  const LoadedLayer<float> original = Load();
  EXPECT_FALSE(std::ranges::equal(layer.runnable().attention_norm.span(),
                                  original.runnable().attention_norm.span()));
}

// What the choice is for: less error at the quantizers, measured as FP8 rounds, not as estimated.
TEST_F(ChannelScalingTest, ChosenFactorsLowerTheRoundingErrorOfInputs) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.cache = CacheScheme::kFp8;
  options.rounding = RoundingAlgorithm::kNearest;
  double errors[2];
  for (const ChannelScaling scaling : {ChannelScaling::kNone, ChannelScaling::kGrid}) {
    options.scaling = scaling;
    LoadedLayer<float> layer = Load();
    const HiddenStates expected = Forward(layer);
    QuantizeLayer(layer, config(), Calibrate(layer, options), options, {});
    errors[scaling == ChannelScaling::kGrid] = RootMeanSquareDifference(Forward(layer), expected);
  }
  EXPECT_LT(errors[1], errors[0]);
}

TEST_F(ChannelScalingTest, OwnScalesOfAFusedGroupDifferByPowersOfTwo) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.weight_scales = WeightScales::kPerMatrix;
  LoadedLayer<float> layer = Load();
  const LayerFacts facts = QuantizeLayer(layer, config(), Calibrate(layer, options), options, {});
  for (const LinearFacts& fact : facts.linears) {
    EXPECT_LE(fact.weight_amax, 448.0f * fact.weight_scale) << fact.module;
  }
  for (const std::size_t i : {1, 2}) {  // k, v against q
    const double ratio = std::log2(static_cast<double>(facts.linears[i].weight_scale) /
                                   facts.linears[0].weight_scale);
    EXPECT_NEAR(ratio, std::round(ratio), 1e-6);
  }
}

TEST_F(ChannelScalingTest, ExcludedGroupsKeepTheirNorm) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.cache = CacheScheme::kFp8;
  LoadedLayer<float> layer = Load();
  for (const LinearSpec& linear : layer.spec().linears) {
    if (linear.group == LinearGroup::kQueryKeyValue) options.excluded.insert(linear.module);
  }
  const LoadedLayer<float> original = Load();
  QuantizeLayer(layer, config(), Calibrate(layer, options), options, {});
  int64_t changed = 0;
  for (int64_t c = 0; c < config().hidden; ++c) {
    EXPECT_EQ(layer.runnable().attention_norm[c], original.runnable().attention_norm[c]);
    changed += layer.runnable().mlp_norm[c] != original.runnable().mlp_norm[c];
  }
  EXPECT_GT(changed, config().hidden / 2);
}

}  // namespace
}  // namespace narrow
