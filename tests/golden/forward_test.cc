// Whole tiny models against transformers in float32 (tests/golden/model_*.json, made by
// tools/goldens/make_references.py): hidden states after each layer, ranges, last logits, losses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "device/operations.h"
#include "io/scratch_directory.h"
#include "model/loaded_layer.h"
#include "model/model_source.h"
#include "model/reference.h"
#include "model/stored_layer.h"
#include "quantization/calibration.h"
#include "stream/streaming_pass.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::FloatNear;
using testing::Pointwise;

constexpr float kNear = 1e-4f;  // hidden states and logits are about 1 to 10

TinyModel ModelOf(const Json& json) {
  const auto presence = [&](const char* key) {
    return json.at(key).get<bool>() ? TinyModel::Presence::kPresent : TinyModel::Presence::kAbsent;
  };
  TinyModel model;
  model.layers = json.at("layers");
  model.hidden = json.at("hidden");
  model.intermediate = json.at("intermediate");
  model.heads = json.at("heads");
  model.key_value_heads = json.at("key_value_heads");
  model.head_size = json.at("head_size");
  model.vocabulary = json.at("vocabulary");
  model.dtype = DtypeFromName(json.at("dtype").get<std::string>()).value();
  model.attention_bias = presence("attention_bias");
  model.mlp_bias = presence("mlp_bias");
  model.lm_head = presence("lm_head");
  model.seed = json.at("seed");
  return model;
}

uint64_t Checksum(const std::vector<TinyTensor>& tensors) {  // FNV-1a
  uint64_t hash = 0xCBF29CE484222325u;
  for (const TinyTensor& tensor : tensors) {
    for (const char c : tensor.bytes)
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  return hash;
}

class ForwardReference : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    reference_ = ReadReference(fmt::format("model_{}.json", GetParam()));
    const TinyModel tiny = ModelOf(reference_["model"]);
    WriteTinyModel(scratch_.path(), tiny);
    WriteFile(scratch_.path() / "config.json", reference_["config"].dump(1));
    ASSERT_EQ(fmt::format("{:016x}", Checksum(TinyTensors(tiny))), reference_["weights_fnv1a"])
        << "TinyTensors() makes other weights than the references were made of; make those again";
    for (const Json& window : reference_["tokens"]) {
      stream_.Append(window.get<std::vector<int32_t>>());
    }
    source_ = OpenModel(scratch_.path(), WeightState::kOriginal);
  }

  std::vector<float> Stored(const std::string& name) const {
    return ReadFloats(*source_.checkpoint, name);
  }
  HiddenStates Embedded() const {
    const std::vector<float> table = Stored(source_.family->model(source_.config).embedding);
    HiddenStates hidden(stream_.size(), source_.config.hidden);
    for (int64_t i = 0; i < hidden.rows; ++i) {
      const int64_t token = stream_.tokens[static_cast<std::size_t>(i)];
      std::copy_n(table.begin() + token * hidden.width, hidden.width, hidden.view().Row(i));
    }
    return hidden;
  }
  std::span<float> RowOf(HiddenStates& hidden, int64_t window, int64_t token) const {
    return hidden.view().RowSpan(stream_.sequences[static_cast<std::size_t>(window)].first + token);
  }

  void ExpectRanges(const LayerSpec& spec, const LayerRanges& ranges, std::size_t layer) const {
    for (const LinearSpec& linear : spec.linears) {
      const auto amax = reference_["input_amax"].at(linear.module).get<float>();
      EXPECT_NEAR(LargestOf(ranges.Input(linear.group)), amax, 1e-4f * amax) << linear.module;
    }
    const auto query = reference_["query_amax"][layer].get<float>();
    const auto key = reference_["key_amax"][layer].get<float>();
    const auto value = reference_["value_amax"][layer].get<float>();
    EXPECT_NEAR(LargestOf(ranges.queries), query, 1e-4f * query);
    EXPECT_NEAR(LargestOf(ranges.keys), key, 1e-4f * key);
    EXPECT_NEAR(LargestOf(ranges.values), value, 1e-4f * value);
  }

  ScratchDirectory scratch_;
  Json reference_;
  TokenStream stream_;
  ModelSource source_;
};

TEST_P(ForwardReference, HiddenStatesRangesAndLastLogitsAreThoseOfTransformers) {
  const DecoderConfig& config = source_.config;
  const RopeTables rope(LayersOf(*source_.family, config), stream_.longest());
  HiddenStates hidden = Embedded();
  BatchWorkspace workspace;
  for (int64_t i = 0; i < config.layers; ++i) {
    const auto layer = static_cast<std::size_t>(i);
    const LoadedLayer loaded(OpenLayer(*source_.checkpoint, SourceSchemes(*source_.checkpoint),
                                       source_.family->layer(config, i), int64_t{1} << 30),
                             ComputeType::kFloat32);
    LayerCalibration calibration(loaded.spec(), {}, {});
    ForwardLayer(loaded.runnable(), rope, stream_.sequences, hidden.view(), workspace,
                 &calibration);
    ExpectRanges(loaded.spec(), calibration.Take(loaded.spec()).ranges, layer);
    for (std::size_t shown = 0; shown < reference_["hidden_of"].size(); ++shown) {
      const auto [window, token] =
          reference_["hidden_of"][shown].get<std::pair<int64_t, int64_t>>();
      EXPECT_THAT(RowOf(hidden, window, token),
                  Pointwise(FloatNear(kNear), Floats(reference_["hidden"][layer][shown])))
          << "layer " << i << ", window " << window << ", token " << token;
    }
  }
  const ModelSpec model = source_.family->model(config);
  const std::vector<float> norm = Stored(model.final_norm.weight), head = Stored(model.lm_head);
  for (std::size_t window = 0; window < stream_.sequences.size(); ++window) {
    const int64_t last = stream_.sequences[window].first + stream_.sequences[window].count - 1;
    std::vector<float> normed(static_cast<std::size_t>(config.hidden));
    std::vector<float> logits(static_cast<std::size_t>(config.vocabulary));
    const MatrixView<float> row(normed.data(), 1, config.hidden);
    RmsNorm(hidden.view().RowBlock(last, 1), norm, config.norm_epsilon, row);
    ProductTransposed(row, {head.data(), config.vocabulary, config.hidden},
                      {logits.data(), 1, config.vocabulary});
    EXPECT_THAT(logits, Pointwise(FloatNear(kNear), Floats(reference_["last_logits"][window])));
  }
}

TEST_P(ForwardReference, WindowLossesOfThePassAreThoseOfTransformers) {
  PassRequest request;
  request.checkpoint = source_.checkpoint.get();
  request.family = source_.family;
  request.config = source_.config;
  request.compute = ComputeType::kFloat32;
  request.evaluation = &stream_;
  SilentProgress progress;
  EXPECT_THAT(
      RunStreamingPass(request, progress).stored_window_nll,
      Pointwise(testing::DoubleNear(1e-5), reference_["window_nll"].get<std::vector<double>>()));
}

// What a config.json says in several places, or not at all, as the loss it leads to.
TEST(ConfigVariants, LossesAreThoseOfTransformers) {
  const Json reference = ReadReference("config_variants.json");
  const TinyModel tiny = ModelOf(reference["model"]);
  ASSERT_EQ(fmt::format("{:016x}", Checksum(TinyTensors(tiny))), reference["weights_fnv1a"]);
  TokenStream stream;
  stream.Append(reference["tokens"].get<std::vector<int32_t>>());
  std::set<double> losses;
  for (const Json& variant : reference["cases"]) {
    SCOPED_TRACE(variant["change"].dump());
    const ScratchDirectory scratch;
    WriteTinyModel(scratch.path(), tiny);
    Json config = reference["config"];
    for (const auto& [key, value] : variant["change"].items()) config[key] = value;
    WriteFile(scratch.path() / "config.json", config.dump(1));
    const ModelSource source = OpenModel(scratch.path(), WeightState::kOriginal);
    EXPECT_EQ(source.config.dtype, tiny.dtype);
    PassRequest request;
    request.checkpoint = source.checkpoint.get();
    request.family = source.family;
    request.config = source.config;
    request.compute = ComputeType::kFloat32;
    request.evaluation = &stream;
    SilentProgress progress;
    const auto expected = variant["window_nll"].get<double>();
    EXPECT_THAT(RunStreamingPass(request, progress).stored_window_nll,
                testing::ElementsAre(testing::DoubleNear(expected, 1e-5)));
    losses.insert(expected);
  }
  EXPECT_GE(losses.size(), 8u) << "the variants are too alike to tell one reading from another";
}

INSTANTIATE_TEST_SUITE_P(Tiny, ForwardReference,
                         testing::Values("gqa_llama3", "biases_tied_linear", "wide_heads_f16"),
                         [](const auto& tiny) { return std::string(tiny.param); });

}  // namespace
}  // namespace narrow
