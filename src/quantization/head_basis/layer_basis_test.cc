#include "quantization/head_basis/layer_basis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "io/scratch_directory.h"
#include "model/decoder_layout.h"
#include "model/model_source.h"
#include "model/rope.h"
#include "model/stored_layer.h"
#include "quantization/layer_quantizer.h"
#include "synthesis/checkpoint.h"
#include "synthesis/presets.h"
#include "text/token_stream.h"

namespace narrow {
namespace {

constexpr int64_t kTokens = 48;

class HeadBasisTest : public testing::Test {
 protected:
  HeadBasisTest() {
    SynthesizeRequest request;
    request.output_directory = scratch_.path() / "model";
    request.config = PresetConfig("tiny");
    request.config_name = "preset tiny";
    SilentProgress progress;
    RunSynthesize(request, progress);
    model_.emplace(OpenModel(request.output_directory, WeightState::kOriginal));
  }

  const DecoderConfig& config() const { return model_->config; }

  LoadedLayer Load() const {
    return LoadedLayer(OpenLayer(*model_->checkpoint, SourceSchemes(*model_->checkpoint),
                                 model_->family->layer(config(), 0), 1 << 30),
                       ComputeType::kFloat32);
  }

  // Hidden states that the layer makes of random ones.
  HiddenStates Forward(const LoadedLayer& layer, LayerObserver* observer = nullptr) {
    std::mt19937 generator(5);
    std::normal_distribution<float> normal;
    HiddenStates hidden(kTokens, config().hidden);
    for (float& value : hidden.data.span()) value = normal(generator);
    const RopeTables rope(LayersOf(*model_->family, config()), kTokens);
    const Sequence sequences[] = {{0, kTokens}};
    ForwardLayer(layer.runnable(), rope, sequences, hidden.view(), workspace_, observer);
    return hidden;
  }

  LayerStatistics Calibrate(const LoadedLayer& layer, const LayerQuantizationOptions& options) {
    LayerCalibration calibration = MakeCalibration(layer.spec(), options);
    calibration.BeginBatch(ComputeType::kFloat32, 0, kTokens);
    Forward(layer, &calibration);
    calibration.EndRound();
    return calibration.Take(layer.spec());
  }

  ScratchDirectory scratch_;
  std::optional<ModelSource> model_;
  BatchWorkspace workspace_;
};

// Any basis of `config`: random angles, factors and matrices.
LayerBasis RandomBasis(const AttentionHeads& heads) {
  std::mt19937 generator(3);
  std::uniform_real_distribution<float> factor(0.71f, 1.41f), angle(0.0f, 1.57f);
  std::normal_distribution<double> normal;
  LayerBasis basis;
  const int64_t size = heads.head_size;
  for (int64_t pair = 0; pair < heads.key_value_heads * size / 2; ++pair) {
    const float radians = angle(generator);
    basis.keys.factors.push_back(factor(generator));
    basis.keys.cosines.push_back(std::cos(radians));
    basis.keys.sines.push_back(std::sin(radians));
  }
  for (int64_t head = 0; head < heads.key_value_heads; ++head) {
    std::vector<double> moments[2];
    for (std::vector<double>& sums : moments) {
      sums.resize(static_cast<std::size_t>(size * size));
      for (int64_t t = 0; t < 2 * size; ++t) {
        std::vector<double> x(static_cast<std::size_t>(size));
        for (double& value : x) value = normal(generator);
        for (std::size_t i = 0; i < sums.size(); ++i) {
          sums[i] += x[i / x.size()] * x[i % x.size()];
        }
      }
    }
    basis.values.push_back(
        BestValueBasis({moments[0].data(), size, size}, {moments[1].data(), size, size}));
  }
  return basis;
}

// The group in the basis, as f32 numbers that are not rounded.
void Change(LoadedLayer& layer, LinearGroup group, const LayerBasis& basis,
            const AttentionHeads& heads) {
  const std::vector<LoadedLinear>& linears = layer.Linears(group);
  const LinearScales ones = {StaticFloat8Input(1.0f), std::vector<float>(linears.size(), 1.0f)};
  layer.Quantize(group, ones, [&](int64_t first_row, MatrixView<float> rows) {
    ChangeWeights(basis, heads, linears, first_row, rows);
  });
  layer.Run(LinearInputs::kOriginal, CacheContents::kOriginal, AttentionArithmetic::kDequantized);
}

double RootMeanSquareDifference(const HiddenStates& a, const HiddenStates& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.data.size(); ++i) {
    sum += std::pow(static_cast<double>(a.data[i]) - b.data[i], 2);
  }
  return std::sqrt(sum / static_cast<double>(a.data.size()));
}

// With nothing rounded, the layer is the same function in any basis. K and V heads are shared and K
// is rotated, which the basis must respect.
TEST_F(HeadBasisTest, LayerIsTheSameFunctionInAnyBasis) {
  const HiddenStates expected = Forward(Load());
  const LayerBasis basis = RandomBasis(config().heads);
  LoadedLayer layer = Load();
  for (const LinearGroup group : kLinearGroups) {
    Change(layer, group, basis, config().heads);
    if (group != LinearGroup::kQueryKeyValue) continue;
    // V is mixed, o not yet
    EXPECT_GT(RootMeanSquareDifference(Forward(layer), expected), 1e-3);
    layer.SetAttendedMixing(MixingBack(basis));
    EXPECT_LT(RootMeanSquareDifference(Forward(layer), expected), 2e-5);
    layer.SetAttendedMixing({});
  }
  EXPECT_LT(RootMeanSquareDifference(Forward(layer), expected), 2e-5);
}

// What K, V and the input of o reach in the new basis lies within the ranges said to hold there.
TEST_F(HeadBasisTest, RangesBoundWhatTheNewBasisReaches) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.cache = CacheScheme::kFp8;
  const LayerBasis basis = RandomBasis(config().heads);
  LoadedLayer layer = Load();
  const LayerRanges bounds = ChangeRanges(basis, Calibrate(layer, options).ranges, config().heads);
  for (const LinearGroup group : {LinearGroup::kQueryKeyValue, LinearGroup::kAttentionOutput}) {
    Change(layer, group, basis, config().heads);
  }
  const LayerRanges reached = Calibrate(layer, options).ranges;
  const auto expect_bounds = [](const std::vector<float>& values, const std::vector<float>& limit) {
    double looseness = 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_LE(values[i], limit[i] * 1.0001f) << i;
      looseness = std::max(looseness, static_cast<double>(values[i] / limit[i]));
    }
    EXPECT_GT(looseness, 0.2);
  };
  expect_bounds(reached.queries, bounds.queries);
  expect_bounds(reached.keys, bounds.keys);
  expect_bounds(reached.values, bounds.values);
  expect_bounds(reached.Input(LinearGroup::kAttentionOutput),
                bounds.Input(LinearGroup::kAttentionOutput));
  EXPECT_EQ(bounds.Input(LinearGroup::kDown).size(), reached.Input(LinearGroup::kDown).size());
}

// What the choice is for: less error in the cache and at the input of o, as FP8 rounds, not as
// estimated.
TEST_F(HeadBasisTest, FittedBasisLowersErrors) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.cache = CacheScheme::kFp8;
  options.rounding = RoundingAlgorithm::kNearest;
  double of_cache[2], of_layer[2];
  const HiddenStates original = Forward(Load());
  for (const HeadBasis choice : {HeadBasis::kOriginal, HeadBasis::kFitted}) {
    options.head_basis = choice;
    LoadedLayer layer = Load();
    HiddenStates before(0, 0), after(0, 0), attended(0, 0);
    QuantizeLayer(layer, Calibrate(layer, options), options, {},
                  [&](std::optional<LinearGroup> part) {
                    if (part == LinearGroup::kQueryKeyValue) before = Forward(layer);
                    if (!part) after = Forward(layer);
                    if (part == LinearGroup::kAttentionOutput) attended = Forward(layer);
                  });
    of_cache[choice == HeadBasis::kFitted] = RootMeanSquareDifference(after, before);
    of_layer[choice == HeadBasis::kFitted] = RootMeanSquareDifference(attended, original);
  }
  EXPECT_LT(of_cache[1], 0.95 * of_cache[0]);
  EXPECT_LT(of_layer[1], 0.97 * of_layer[0]);
}

TEST_F(HeadBasisTest, ExcludedLinearsAndBiasesKeepTheirBasis) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme("fp8");
  options.cache = CacheScheme::kFp8;
  LayerSpec spec = Load().spec();
  const auto statistics = [&] {
    LayerCalibration calibration = MakeCalibration(spec, options);
    return calibration.Take(spec).basis;
  };
  EXPECT_TRUE(statistics().keys && statistics().values);
  options.cache = CacheScheme::kNone;  // attention's output is rounded all the same
  EXPECT_TRUE(!statistics().keys && statistics().values);
  options.cache = CacheScheme::kFp8;
  options.excluded = {spec.linears[3].module};  // o
  EXPECT_TRUE(statistics().keys && !statistics().values);
  options.excluded = {spec.linears[0].module, spec.linears[1].module, spec.linears[2].module};
  EXPECT_FALSE(statistics().keys || statistics().values);
  options.excluded.clear();
  spec.linears[1].bias = Bias::kPresent;  // k
  EXPECT_TRUE(!statistics().keys && statistics().values);
  spec.linears[2].bias = Bias::kPresent;  // v
  EXPECT_FALSE(statistics().keys || statistics().values);
}

TEST(HeadBasis, HeadsOfSizesThatAreNotPowersOfTwoKeepTheirBasis) {
  const auto freedom = [&](const AttentionHeads& heads) {
    DecoderConfig config;
    config.hidden = config.intermediate = 64;
    config.heads = heads;
    const LayerSpec layer = DecoderLayout(config, 0);
    return FreedomToFit(layer);
  };
  EXPECT_TRUE(freedom({32, 8, 128}).keys && freedom({32, 8, 128}).values);
  EXPECT_TRUE(freedom({9, 3, 64}).keys && freedom({9, 3, 64}).values);
  EXPECT_FALSE(freedom({32, 32, 100}).keys || freedom({32, 32, 100}).values);
  EXPECT_FALSE(freedom({32, 32, 256}).keys || freedom({32, 32, 256}).values);
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
  // However small the weights: a scale that is not normal has no reciprocal.
  for (const float scale : ChooseWeightScales({1.0f, 1e-37f, 1e-44f}, scheme,
                                              WeightScales::kPerMatrix, OwnScales::kPowersOfTwo)) {
    EXPECT_GE(scale, 0x1p-126f);
  }
}

}  // namespace
}  // namespace narrow
