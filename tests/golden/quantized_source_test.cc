// Checkpoints of other tools as sources, run as they are served: losses of a float32 forward with
// weights, inputs and cache as each format has them (golden/schemes/tools/losses.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch_directory.h"
#include "model/model_source.h"
#include "stream/streaming_pass.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/mean.h"
#include "tests/support/stored_tensors.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolders[] = {"ct-fp8-static",
                                    "ct-fp8-static-kv",
                                    "ct-fp8-static-kv-default-observer",
                                    "ct-fp8-dynamic",
                                    "ct-fp8-dynamic-kv-head",
                                    "ct-fp8-block",
                                    "fp8-block",
                                    "ct-int8-dynamic",
                                    "ct-int8-static",
                                    "ct-int8-static-asym",
                                    "ct-w4a16",
                                    "ct-w4a16-asym",
                                    "ct-mxfp4",
                                    "ct-mxfp4a16",
                                    "ct-nvfp4",
                                    "ct-nvfp4a16",
                                    "quark-ptpc-fp8",
                                    "quark-mxfp4",
                                    "quark-mxfp4-weight-only",
                                    "ragged/ct-fp8-block",
                                    "ragged/ct-mxfp4",
                                    "ragged/ct-mxfp8",
                                    "ragged/ct-nvfp4",
                                    "ragged/quark-mxfp4"};

std::vector<double> Losses(const fs::path& directory, const Json& windows, ComputeType compute) {
  const ModelSource model = OpenModel(directory, WeightState::kQuantizedToo);
  TokenStream stream;
  for (const Json& window : windows) stream.Append(window.get<std::vector<int32_t>>());
  PassRequest request;
  request.checkpoint = model.checkpoint.get();
  request.family = model.family;
  request.config = model.config;
  request.compute = compute;
  request.evaluation = &stream;
  SilentProgress progress;
  return RunStreamingPass(request, progress).stored_window_nll;
}

class QuantizedSource : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    base_ = SharedPath("golden/schemes");
    if (base_.empty()) GTEST_SKIP() << "reference checkpoints are absent";
    CopyCheckpoint(base_ / GetParam(), copy_.path());
    windows_ = ReadJsonFile((base_ / "calibration.json").string()).at("windows");
    reference_ = ReadJsonFile((copy_.path() / "reference.json").string()).at("window_losses");
  }

  std::vector<double> Expected(const char* part) const {
    return reference_.at(part).at("windows").get<std::vector<double>>();
  }

  fs::path base_;
  ScratchDirectory copy_;
  Json windows_;
  Json reference_;
};

// The bounds are schemes.md's: without rounded inputs nothing is near a tie; with them one flipped
// rounding moves a window by up to 1e-3, and those of the ragged model in blocks more: noise of
// 1e-7 on the inputs of the reference's own forward moves its windows by up to 8e-3.
TEST_P(QuantizedSource, LossesAsServed) {
  const std::vector<double> losses = Losses(copy_.path(), windows_, ComputeType::kFloat32);
  const char* served = reference_.contains("with_kv_cache")             ? "with_kv_cache"
                       : reference_.contains("weights_and_activations") ? "weights_and_activations"
                                                                        : "weights_only";
  const bool exact = reference_.size() == 1;
  const bool restless = std::string(GetParam()) == "ragged/ct-fp8-block";
  const std::vector<double> expected = Expected(served);
  EXPECT_NEAR(Mean(losses), Mean(expected), exact ? 1e-5 : 2e-3);
  const double bound = exact ? 1e-5 : restless ? 8e-3 : 2e-3;
  EXPECT_THAT(losses, testing::Pointwise(testing::DoubleNear(bound), expected));
}

// In bf16 products codes are exact, dequantized groups are not: noise of bf16's size, which moves a
// mean by up to 0.005 here (schemes.md, section 6).
TEST_P(QuantizedSource, LossesInBfloat16) {
  if (NativeComputeType() != ComputeType::kBfloat16) GTEST_SKIP() << "no bf16 products here";
  const std::vector<double> losses = Losses(copy_.path(), windows_, ComputeType::kBfloat16);
  const std::vector<double> exact = Losses(copy_.path(), windows_, ComputeType::kFloat32);
  EXPECT_NEAR(Mean(losses), Mean(exact), 0.005);
}

INSTANTIATE_TEST_SUITE_P(Folders, QuantizedSource, testing::ValuesIn(kFolders),
                         [](const testing::TestParamInfo<const char*>& folder) {
                           return FolderAsName(folder.param);
                         });

}  // namespace
}  // namespace narrow
