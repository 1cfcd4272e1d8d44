// The job with a forward pass in every scheme, beside the checkpoints of the tools
// (../shared/golden/schemes): bytes where rounding is to nearest, and what is predicted of a
// checkpoint against that checkpoint evaluated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/mean.h"
#include "tests/support/stored_tensors.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

struct Golden {
  const char* folder;
  const char* scheme;
  const char* format;
  const char* source = "source";
  bool cache = false;
};

constexpr Golden kGoldens[] = {
    {"ct-fp8-static", "fp8", "compressed-tensors"},
    {"ct-fp8-static-kv", "fp8", "compressed-tensors", "source", true},
    {"ct-fp8-dynamic", "FP8_DYNAMIC", "compressed-tensors"},
    {"ct-fp8-block", "fp8_block", "compressed-tensors"},
    {"fp8-block", "FP8_BLOCK", "fp8"},
    {"ct-int8-dynamic", "W8A8", "compressed-tensors"},
    {"ct-int8-static", "W8A8_STATIC", "compressed-tensors"},
    {"ct-w4a16", "W4A16", "compressed-tensors"},
    {"ct-w4a16-asym", "W4A16_ASYM", "compressed-tensors"},
    {"ct-mxfp4", "mxfp4", "compressed-tensors"},
    {"ct-mxfp4a16", "MXFP4A16", "compressed-tensors"},
    {"ct-nvfp4", "nvfp4", "compressed-tensors"},
    {"ct-nvfp4a16", "NVFP4A16", "compressed-tensors"},
    {"quark-ptpc-fp8", "ptpc_fp8", "quark"},
    {"quark-mxfp4", "mxfp4", "quark"},
    {"quark-mxfp4-weight-only", "MXFP4A16", "quark"},
    {"ragged/ct-mxfp4", "MXFP4", "compressed-tensors", "source-ragged"},
    {"ragged/ct-mxfp8", "mxfp8", "compressed-tensors", "source-ragged"},
    {"ragged/ct-nvfp4", "NVFP4", "compressed-tensors", "source-ragged"},
};

bool IsCalibrated(const std::string& tensor) {
  return tensor.ends_with("input_scale") || tensor.ends_with("input_global_scale") ||
         tensor.ends_with(".k_scale") || tensor.ends_with(".v_scale");
}

class SchemeJob : public testing::TestWithParam<Golden> {
 protected:
  void SetUp() override {
    base_ = SharedPath("golden/schemes");
    if (base_.empty()) GTEST_SKIP() << "reference checkpoints are absent";
    texts_ = ReadJsonFile((base_ / "calibration.json").string());
    CopyCheckpoint(base_ / GetParam().folder, golden_.path());
    CopyCheckpoint(base_ / GetParam().source, source_.path());
    output_ = scratch_.path() / "out";
  }

  // The loss that the report predicts of what is served with the cache dequantized.
  double Quantize(const std::string& algorithm) const {
    std::vector<std::string> words = {"quantize",
                                      "--model_dir",
                                      source_.path().string(),
                                      "--output_dir",
                                      output_.string(),
                                      "--quant_scheme",
                                      GetParam().scheme,
                                      "--format",
                                      GetParam().format,
                                      "--quant_algo",
                                      algorithm,
                                      "--data_type",
                                      "float32",
                                      "--dataset",
                                      PutIds(scratch_, "calibration.jsonl", texts_["calibration"]),
                                      "--num_calib_data",
                                      "4",
                                      "--eval_data",
                                      PutIds(scratch_, "windows.jsonl", texts_["windows"]),
                                      "--attention",
                                      "bf16"};
    if (GetParam().cache) words.insert(words.end(), {"--kv_cache_dtype", "fp8"});
    const CommandResult result = RunNarrow(words);
    EXPECT_EQ(result.status, 0) << result.error;
    if (result.status != 0) return 0.0;
    const Json report = ReadJsonFile((output_ / "narrow-report.json").string());
    return std::log(report.at("evaluation").at("perplexity").at("deployed").get<double>());
  }

  std::vector<double> Evaluate(const fs::path& model) const {
    const std::string json = (scratch_.path() / "figures.json").string();
    const CommandResult result =
        EvaluateIds(model.string(), texts_["windows"], scratch_, json, {"--attention", "bf16"});
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(json).at("window_nll").get<std::vector<double>>();
  }

  fs::path base_, output_;
  Json texts_;
  ScratchDirectory scratch_, golden_, source_;
};

TEST_P(SchemeJob, BytesToNearestAreThoseOfTheTool) {
  const double predicted = Quantize("none");
  if (HasFailure()) return;
  const auto expected = ReadTensors(golden_.path());
  auto made = ReadTensors(output_);
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(made.contains(name)) << name;
    EXPECT_EQ(Name(made.at(name).dtype), Name(tensor.dtype)) << name;
    EXPECT_EQ(made.at(name).shape, tensor.shape) << name;
    if (IsCalibrated(name)) {
      // Of a float32 forward, the tool's is bf16: ranges differ by up to 1.3 % (schemes.md).
      const float value = made.at(name).Floats()[0], wanted = tensor.Floats()[0];
      EXPECT_NEAR(value, wanted, 0.02f * wanted) << name;
    } else {
      EXPECT_TRUE(made.at(name).bytes == tensor.bytes) << name;
    }
  }
  std::erase_if(made, [](const auto& tensor) { return tensor.first.ends_with(".q_scale"); });
  EXPECT_EQ(made.size(), expected.size());
  const Json config = ReadJsonFile((output_ / "config.json").string()).at("quantization_config");
  const Json wanted =
      ReadJsonFile((golden_.path() / "config.json").string()).at("quantization_config");
  for (const auto& [key, value] : config.items()) {
    EXPECT_EQ(nlohmann::json(value), nlohmann::json(wanted.at(key))) << key;
  }
  const Json losses = ReadJsonFile((golden_.path() / "reference.json").string())["window_losses"];
  const char* served = losses.contains("with_kv_cache")             ? "with_kv_cache"
                       : losses.contains("weights_and_activations") ? "weights_and_activations"
                                                                    : "weights_only";
  EXPECT_NEAR(predicted, losses[served]["mean"].get<double>(), losses.size() == 1 ? 1e-5 : 3e-3);
}

TEST_P(SchemeJob, CompensatedIsServedAsPredicted) {
  const double predicted = Quantize("gptq");
  if (HasFailure()) return;
  // Of one scale per tensor it is what a server makes of fused matrices at load; evaluation of a
  // checkpoint goes by the file.
  const bool requantized = std::string(GetParam().scheme) == "fp8";
  EXPECT_NEAR(Mean(Evaluate(output_)), predicted, requantized ? 1e-3 : 1e-5);
  const CommandResult inspected = RunNarrow({"inspect", output_.string()});
  EXPECT_EQ(inspected.status, 0) << inspected.output << inspected.error;
  // Fewer bits, less output error: of all layers together compensation takes off.
  const Json report = ReadJsonFile((output_ / "narrow-report.json").string());
  double error = 0.0, nearest = 0.0;
  for (const Json& weight : report.at("weights")) {
    error += weight.at("output_error").get<double>();
    nearest += weight.at("nearest_output_error").get<double>();
  }
  EXPECT_LT(error, 0.9 * nearest);
}

INSTANTIATE_TEST_SUITE_P(Folders, SchemeJob, testing::ValuesIn(kGoldens),
                         [](const testing::TestParamInfo<Golden>& golden) {
                           return FolderAsName(golden.param.folder);
                         });

}  // namespace
}  // namespace narrow
