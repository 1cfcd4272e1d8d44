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

// Any factors, as long as they are undone: with nothing rounded, the layer is the same function. K
// and V heads are shared and K is rotated, which the factors must respect.
TEST_F(ChannelScalingTest, ScaledLayerIsTheSameFunction) {
  const HiddenStates expected = Forward(Load());
  LayerScaling scaling;
  scaling.values = RandomFactors(config().key_value_width(), 3);
  scaling.keys = RandomFactors(config().key_value_width(), 5);
  const int64_t half = config().heads.head_size / 2;
  for (int64_t c = 0; c < config().key_value_width(); ++c) {
    if (c % config().heads.head_size >= half) {
      scaling.keys[static_cast<std::size_t>(c)] = scaling.keys[static_cast<std::size_t>(c - half)];
    }
  }
  LoadedLayer<float> layer = Load();
  GroupQuantization unquantized;
  unquantized.inputs = GroupQuantization::Inputs::kOriginal;
  for (const LinearGroup group : kLinearGroups) {
    const WeightFactors factors = FactorsOf(scaling, layer.Linears(group), config());
    layer.Quantize(group, unquantized, [&](int64_t first_row, MatrixView<float> rows) {
      factors.Apply(first_row, rows);
    });
    if (group != LinearGroup::kQueryKeyValue) continue;
    // V is scaled, o not yet
    EXPECT_GT(RootMeanSquareDifference(Forward(layer), expected), 1e-3);
  }
  EXPECT_LT(RootMeanSquareDifference(Forward(layer), expected), 2e-5);
}

// What the choice is for: less error in the cache, as FP8 rounds, not as estimated.
TEST_F(ChannelScalingTest, ChosenFactorsLowerTheErrorOfTheCache) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.cache = CacheScheme::kFp8;
  options.rounding = RoundingAlgorithm::kNearest;
  double errors[2];
  for (const ChannelScaling scaling : {ChannelScaling::kNone, ChannelScaling::kKeysAndValues}) {
    options.scaling = scaling;
    LoadedLayer<float> layer = Load();
    HiddenStates before(0, 0), after(0, 0);
    QuantizeLayer(layer, config(), Calibrate(layer, options), options, {},
                  [&](std::optional<LinearGroup> part) {
                    if (part == LinearGroup::kQueryKeyValue) before = Forward(layer);
                    if (!part) after = Forward(layer);
                  });
    errors[scaling == ChannelScaling::kKeysAndValues] = RootMeanSquareDifference(after, before);
  }
  EXPECT_LT(errors[1], 0.97 * errors[0]);
}

TEST_F(ChannelScalingTest, ExcludedLinearsAndBiasesAreNotScaled) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.cache = CacheScheme::kFp8;
  LayerSpec spec = Load().spec();
  const auto errors = [&] {
    LayerCalibration<float> calibration = MakeCalibration<float>(spec, config(), options);
    return calibration.Take(spec).grid_errors;
  };
  EXPECT_TRUE(errors().keys && errors().values && errors().attended);
  options.excluded = {spec.linears[3].module};  // o
  EXPECT_TRUE(errors().keys);
  EXPECT_FALSE(errors().values || errors().attended);
  options.excluded = {spec.linears[0].module, spec.linears[1].module, spec.linears[2].module};
  EXPECT_FALSE(errors().keys || errors().values || errors().attended);
  options.excluded.clear();
  spec.linears[1].bias = Bias::kPresent;
  EXPECT_FALSE(errors().keys || errors().values || errors().attended);
}

TEST(WeightScales, OwnScalesOfPowersOfTwoCoverTheirRange) {
  const QuantizationScheme& scheme = FindQuantizationScheme("fp8");
  const std::vector<float> amax = {8.0f, 3.9f, 4.0f, 0.011f, 0.0f};
  const std::vector<float> own =
      ChooseWeightScales(amax, scheme, WeightScales::kPerMatrix, OwnScales::kPowersOfTwo);
  const float largest = 8.0f / 448.0f;
  EXPECT_EQ(own, (std::vector<float>{largest, largest / 2, largest / 2, largest / 512, largest}));
  for (std::size_t i = 0; i < amax.size(); ++i) EXPECT_LE(amax[i], 448.0f * own[i]) << i;
  EXPECT_EQ(ChooseWeightScales(amax, scheme, WeightScales::kPerFusedGroup, OwnScales::kPowersOfTwo),
            std::vector<float>(5, largest));
}

}  // namespace
}  // namespace narrow
