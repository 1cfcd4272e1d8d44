// The whole pass against transformers' float32 forward of a random 3-layer Llama 3.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/scratch_directory.h"
#include "model/model_source.h"
#include "stream/streaming_pass.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"

namespace narrow {
namespace {

class TinyLlama3 : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = SharedPath("golden/tiny-llama3");
    if (directory_.empty()) GTEST_SKIP() << "the shared golden data is not there";
    reference_ = ReadJsonFile(directory_ + "/reference.json");
    for (const Json& window : reference_["tokens"]) {
      stream_.Append(window.get<std::vector<int32_t>>());
    }
    model_ = OpenModel(directory_, WeightState::kOriginal);
  }

  PassRequest Request() const {
    PassRequest request;
    request.checkpoint = model_.checkpoint.get();
    request.family = model_.family;
    request.config = model_.config;
    request.compute = ComputeType::kFloat32;
    return request;
  }

  std::string directory_;
  Json reference_;
  TokenStream stream_;
  ModelSource model_;
};

TEST_F(TinyLlama3, WindowLossesMatchTransformers) {
  PassRequest request = Request();
  request.evaluation = &stream_;
  SilentProgress progress;
  const PassResult result = RunStreamingPass(request, progress);
  const auto expected = reference_["window_nll"].get<std::vector<double>>();
  EXPECT_THAT(result.stored_window_nll, testing::Pointwise(testing::DoubleNear(1e-4), expected));
}

// The same by the program, which has no tokenizer here.
TEST_F(TinyLlama3, LossesOfLinesOfIdsMatchTransformers) {
  const ScratchDirectory scratch;
  const std::string json = (scratch.path() / "e.json").string();
  const CommandResult result = EvaluateIds(directory_, reference_["tokens"], scratch, json);
  ASSERT_EQ(result.status, 0) << result.error;
  const Json found = ReadJsonFile(json);
  EXPECT_THAT(found["window_nll"].get<std::vector<double>>(),
              testing::Pointwise(testing::DoubleNear(1e-4),
                                 reference_["window_nll"].get<std::vector<double>>()));
  const double expected = reference_["ppl"];
  EXPECT_NEAR(found["perplexity"].get<double>(), expected, 1e-4 * expected);
}

TEST_F(TinyLlama3, RangesMatchTransformers) {
  PassRequest request = Request();
  request.calibration = &stream_;
  request.quantization.emplace();
  request.quantization->scheme = &FindQuantizationScheme("fp8");
  request.quantization->cache = CacheScheme::kFp8;
  request.quantization->head_basis = HeadBasis::kOriginal;  // the ranges of the checkpoint as it is
  SilentProgress progress;
  const PassResult result = RunStreamingPass(request, progress);
  const Json& amax = reference_["amax"];
  std::size_t compared = 0;
  for (const LayerFacts& layer : result.layers) {
    for (const LinearFacts& linear : layer.linears) {
      const double expected = amax[linear.module]["input_amax"].get<double>();
      EXPECT_NEAR(linear.input_amax, expected, 1e-3 * expected) << linear.module;
      ++compared;
    }
    // V is not rotated; K is recorded before RoPE in the reference and after it here, so only the
    // bound that a rotation keeps can be compared: at most sqrt(2) larger.
    const std::string attention = layer.cache->attention_module;
    const double value = amax[attention + ".v_proj"]["output_amax"].get<double>();
    EXPECT_NEAR(layer.cache->value_amax, value, 1e-3 * value) << attention;
    const double key = amax[attention + ".k_proj"]["output_amax"].get<double>();
    EXPECT_LE(layer.cache->key_amax, key * 1.4143) << attention;
    EXPECT_GE(layer.cache->key_amax, key / 1.4143) << attention;
  }
  EXPECT_EQ(compared, amax.size());
}

}  // namespace
}  // namespace narrow
