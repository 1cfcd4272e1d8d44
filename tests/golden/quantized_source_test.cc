// Checkpoints of other tools as sources, run as they are served: losses of a float32 forward with
// weights, inputs and cache as each format has them (golden/schemes/tools/losses.py), or as vLLM
// holds them (tools/goldens/make_comparisons.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch_directory.h"
#include "model/model_source.h"
#include "model/reference.h"
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

  // FP8 with a scale per tensor is served otherwise than it is stored, where the linears of a fused
  // group have scales of their own: there the losses are those of comparisons.json.
  std::vector<double> Expected(const char* part) const {
    const Json served = ReadReference("comparisons.json");
    if (std::string_view(GetParam()).starts_with("ct-fp8-static")) {
      return served.at(GetParam()).at("window_nll").get<std::vector<double>>();
    }
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

// vLLM fuses linears and takes the largest of their global divisors, with a warning (0.32,
// compressed_tensors_w4a4_nvfp4.py): a checkpoint is evaluated as if it said so of all.
TEST(FusedGlobalScales, AreTheLargestDivisor) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const Json windows = ReadJsonFile((base / "calibration.json").string()).at("windows");
  const auto losses = [&](float key_divisor, float other_divisor) {
    ScratchDirectory scratch, changed;
    CopyCheckpoint(base / "ct-nvfp4a16", scratch.path());
    auto tensors = ReadTensors(scratch.path());
    for (auto& [name, tensor] : tensors) {
      if (!name.ends_with("weight_global_scale") || name.find("self_attn") == name.npos) continue;
      if (name.find("o_proj") != name.npos) continue;
      const float factor = name.find("k_proj") != name.npos ? key_divisor : other_divisor;
      const float divisor = factor * tensor.Floats().front();
      std::memcpy(tensor.bytes.data(), &divisor, sizeof divisor);
    }
    fs::copy_file(scratch.path() / "config.json", changed.path() / "config.json");
    WriteTensors(changed.path(), tensors);
    return Losses(changed.path(), windows, ComputeType::kFloat32);
  };
  const std::vector<double> shared = losses(2.0f, 2.0f);
  EXPECT_EQ(losses(2.0f, 1.0f), shared);
  EXPECT_EQ(losses(1.0f, 2.0f), shared);
  EXPECT_NE(losses(1.0f, 1.0f), shared);
}

}  // namespace
}  // namespace narrow
