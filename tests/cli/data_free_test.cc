// narrow quantize --skip_calibration as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;

class DataFree : public testing::Test {
 protected:
  void SetUp() override {
    WriteTinyModel(Path("model"), {.layers = 3, .hidden = 128, .intermediate = 256, .shards = 2});
  }
  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }
  CommandResult Run(const std::string& output, const std::vector<std::string>& more,
                    const CommandOptions& options = {}) const {
    std::vector<std::string> arguments = {"quantize", "--model_dir", Path("model"), "--output_dir",
                                          Path(output)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunNarrow(arguments, options);
  }
  void ExpectRefused(const std::vector<std::string>& more, const std::string& message,
                     int status = 2) const {
    const CommandResult result = Run("refused", more);
    EXPECT_EQ(result.status, status) << result.error;
    EXPECT_THAT(result.LastErrorLine(), HasSubstr(message));
    EXPECT_FALSE(std::filesystem::exists(Path("refused")));
  }

  ScratchDirectory scratch_;
};

TEST_F(DataFree, SaysWhatStaysBeforeWorkAndLeavesACompleteDirectory) {
  const CommandResult result = Run("out", {"--skip_calibration", "--quant_scheme", "fp8_dynamic"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("Quantizing 21 matrices"));
  EXPECT_THAT(result.error, HasSubstr("embedding (the first: model.embed_tokens)"));
  EXPECT_THAT(result.output, HasSubstr("21 of 23 matrices in FP8_DYNAMIC (compressed-tensors)"));
  const std::set<std::string> names = Names(Path("out"));
  for (const char* file : {"config.json", "generation_config.json", "tokenizer.json", "LICENSE",
                           "narrow-report.json", "narrow-output.json", "model.safetensors"}) {
    EXPECT_TRUE(names.contains(file)) << file;
  }
  EXPECT_EQ(Names(scratch_.path()), (std::set<std::string>{"model", "out"}));
}

TEST_F(DataFree, PlanSaysTheSizesOfTheOutput) {
  const std::vector<std::string> flags = {"--skip_calibration", "--quant_scheme", "mxfp4"};
  std::vector<std::string> arguments = {"plan", "--model_dir", Path("model"), "--json",
                                        Path("plan.json")};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const CommandResult plan = RunNarrow(arguments);
  ASSERT_EQ(plan.status, 0) << plan.error;
  EXPECT_THAT(plan.output, HasSubstr("Quantizing 21 matrices"));
  ASSERT_EQ(Run("out", flags).status, 0);
  int64_t bytes = 0;
  for (const auto& [name, tensor] : ReadTensors(Path("out"))) {
    bytes += static_cast<int64_t>(tensor.bytes.size());
  }
  EXPECT_EQ(ReadJsonFile(Path("plan.json")).at("written_bytes"), bytes);
}

TEST_F(DataFree, IsImpliedByRoundingToNearestWithoutEvaluation) {
  const CommandResult result =
      Run("out", {"--quant_scheme", "W8A8", "--quant_algo", "none", "--skip_evaluation"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("W8A8"));
}

TEST_F(DataFree, RefusesWhatNeedsAForwardPass) {
  ExpectRefused({"--skip_calibration"}, "come from calibration", 5);
  ExpectRefused({"--skip_calibration", "--quant_scheme", "nvfp4"}, "come from calibration", 5);
  ExpectRefused({"--quant_scheme", "MXFP4", "--format", "quark", "--kv_cache_dtype", "fp8"},
                "no place for scales of the KV cache", 5);
  ExpectRefused({"--skip_calibration", "--quant_scheme", "W4A16", "--kv_cache_dtype", "fp8"},
                "--kv_cache_dtype needs a forward pass");
  ExpectRefused({"--skip_calibration", "--quant_scheme", "W4A16", "--format", "quark"},
                "compressed-tensors", 5);
  ExpectRefused({"--skip_calibration", "--quant_scheme", "int8"}, "means two schemes");
  ExpectRefused({"--skip_calibration", "--quant_scheme", "W4A16", "--custom_mode", "quark"},
                "--format quark does not hold", 5);
  ExpectRefused({"--skip_calibration", "--quant_scheme", "mxfp4", "--custom_mode", "quark",
                 "--format", "fp8"},
                "contradict each other");
  ExpectRefused({"--exact_quotient"}, "are for other schemes and --skip_calibration");
  ExpectRefused({"--recipe", Path("none.json")}, "none.json", 3);
}

TEST_F(DataFree, RefusesAnOutputThatIsThereOrIsTheModel) {
  EXPECT_EQ(Run("model", {"--skip_calibration", "--quant_scheme", "W8A8"}).status, 2);
  std::filesystem::create_directory(Path("out"));
  WriteFile(Path("out/mine.txt"), "mine");
  const CommandResult result =
      Run("out", {"--skip_calibration", "--quant_scheme", "W8A8", "--overwrite"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(ReadFile(Path("out/mine.txt")), "mine");
}

TEST_F(DataFree, RefusesAQuantizedSource) {
  ASSERT_EQ(Run("out", {"--skip_calibration", "--quant_scheme", "W8A8"}).status, 0);
  const CommandResult again =
      RunNarrow({"quantize", "--model_dir", Path("out"), "--output_dir", Path("again"),
                 "--skip_calibration", "--quant_scheme", "W8A8"});
  EXPECT_EQ(again.status, 5);
  EXPECT_FALSE(std::filesystem::exists(Path("again")));
}

TEST_F(DataFree, NamesTheMatrixThatHoldsNan) {
  std::vector<TinyTensor> tensors = TinyTensors({.layers = 3, .hidden = 128, .intermediate = 256});
  SetElement(FindTensor(tensors, "model.layers.1.mlp.up_proj.weight"), 5, NAN);
  std::filesystem::remove_all(Path("model"));
  WriteTinyModel(Path("model"), {.layers = 3, .hidden = 128, .intermediate = 256});
  WriteWeights(Path("model"), tensors, 1);
  for (const char* scheme : {"FP8_DYNAMIC", "W4A16_ASYM", "MXFP4", "NVFP4A16"}) {
    ExpectRefused({"--skip_calibration", "--quant_scheme", scheme},
                  "model.layers.1.mlp.up_proj.weight holds NaN", 7);
  }
  EXPECT_EQ(Names(scratch_.path()), (std::set<std::string>{"model"}));
}

// A disk that fails in the middle: the same command continues, and the bytes are the same.
TEST_F(DataFree, AnInterruptedJobContinues) {
  const std::vector<std::string> flags = {"--skip_calibration", "--quant_scheme", "NVFP4A16",
                                          "--save_interval", "0"};
  ASSERT_EQ(Run("whole", flags).status, 0);
  const FileFault fault{.call = FileFault::Call::kWrite, .file = "model.safetensors", .after = 25};
  const CommandResult stopped = Run("out", flags, WithFault(fault));
  ASSERT_EQ(stopped.status, 6) << stopped.error;
  EXPECT_THAT(stopped.LastErrorLine(), HasSubstr("the same command continues"));
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
  const CommandResult continued = Run("out", flags);
  ASSERT_EQ(continued.status, 0) << continued.error;
  EXPECT_THAT(continued.error, HasSubstr("Continuing after tensor"));
  EXPECT_EQ(ReadFile(Path("whole/model.safetensors")), ReadFile(Path("out/model.safetensors")));
  EXPECT_EQ(ReadFile(Path("whole/config.json")), ReadFile(Path("out/config.json")));
  EXPECT_EQ(Names(scratch_.path()), (std::set<std::string>{"model", "out", "whole"}));
}

TEST_F(DataFree, RecipesMixSchemesInOneCheckpoint) {
  WriteFile(Path("recipe.json"), R"({"rules": [
      {"modules": "*.layers.2.*", "scheme": null},
      {"modules": "*.self_attn.*", "scheme": "FP8_DYNAMIC"},
      {"modules": "*.mlp.*", "scheme": "nvfp4a16"}]})");
  const CommandResult result = Run("out", {"--skip_calibration", "--recipe", Path("recipe.json")});
  ASSERT_EQ(result.status, 0) << result.error;
  const auto tensors = ReadTensors(Path("out"));
  EXPECT_TRUE(tensors.contains("model.layers.0.mlp.up_proj.weight_global_scale"));
  EXPECT_EQ(tensors.at("model.layers.0.self_attn.q_proj.weight").dtype, Dtype::kF8E4M3);
  EXPECT_EQ(tensors.at("model.layers.2.self_attn.q_proj.weight").dtype, Dtype::kBF16);
  EXPECT_THAT(ReadFile(Path("out/config.json")), HasSubstr("mixed-precision"));
  EXPECT_THAT(ReadFile(Path("out/config.json")), Not(HasSubstr("\"Linear\"")));
}

}  // namespace
}  // namespace narrow
