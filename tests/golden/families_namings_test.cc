// FamiliesInBothNamings of decoders against transformers' float32 forward of a random model of
// each: losses and ranges; and quantized, in both namings, looked at and evaluated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "io/checkpoint_reader.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"

namespace narrow {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

class FamiliesInBothNamings : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    // Of tools/goldens/make_families.py, or shared.
    model_ = NARROW_SOURCE_DIR "/tests/golden/families/" + GetParam();
    if (!std::filesystem::exists(model_)) {
      model_ = SharedPath("golden/families/tiny-" + GetParam());
    }
    if (model_.empty()) GTEST_SKIP() << "the shared golden data is not there";
    reference_ = ReadJsonFile(model_ + "/reference.json");
  }

  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  // Calibrated and evaluated on the windows of the reference.
  CommandResult Quantize(const std::vector<std::string>& more) const {
    const std::string texts = PutIds(scratch_, "c.jsonl", reference_["tokens"]);
    std::vector<std::string> words = {"quantize",  "--model_dir", model_,        "--output_dir",
                                      Path("out"), "--dataset",   texts,         "--eval_data",
                                      texts,       "--overwrite", "--data_type", "float32"};
    words.insert(words.end(), more.begin(), more.end());
    return RunNarrow(words);
  }

  // Whether vLLM 0.32 loads Quark's names of the scales of the cache: tools/check_vllm_families.py.
  static bool InQuarkNaming() { return GetParam() == "glm4" || GetParam() == "phi3"; }

  ScratchDirectory scratch_;
  std::string model_;
  Json reference_;
};

TEST_P(FamiliesInBothNamings, LossesMatchTransformers) {
  const CommandResult result = EvaluateIds(model_, reference_["tokens"], scratch_, Path("e.json"));
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(ReadJsonFile(Path("e.json"))["window_nll"].get<std::vector<double>>(),
              Pointwise(DoubleNear(1e-4), reference_["window_nll"].get<std::vector<double>>()));
}

void ExpectClose(const Json& found, const Json& expected, const std::string& what) {
  EXPECT_NEAR(found.get<double>(), expected.get<double>(), 1e-3 * expected.get<double>()) << what;
}

// transformers' cache keeps the last window only of a layer that has one: there the range over all
// tokens is at least that.
TEST_P(FamiliesInBothNamings, RangesMatchTransformers) {
  const CommandResult result = Quantize({"--head_basis", "none", "--quant_algo", "none",
                                         "--skip_evaluation", "--kv_cache_dtype", "fp8"});
  ASSERT_EQ(result.status, 0) << result.error;
  const Json report = ReadJsonFile(Path("out/narrow-report.json"));
  const Json config = ReadJsonFile(model_ + "/config.json");
  std::map<std::string, Json> inputs;
  for (const Json& input : report["inputs"]) {
    inputs[input["name"].get<std::string>()] = input["amax"];
  }
  ASSERT_EQ(report["kv_cache"].size(), reference_["cache_amax"].size());
  for (std::size_t i = 0; i < report["kv_cache"].size(); ++i) {
    const bool window = config.contains("layer_types")
                            ? config["layer_types"][i] == "sliding_attention"
                            : config.contains("sliding_window");
    const Json& expected = reference_["cache_amax"][i];
    for (const auto& [name, value] : {std::pair{"k", expected[0]}, std::pair{"v", expected[1]}}) {
      const Json& found = report["kv_cache"][i][name]["amax"];
      if (window) {
        EXPECT_GE(found.get<double>(), value.get<double>() * (1 - 1e-3)) << i << name;
      } else {
        ExpectClose(found, value, std::to_string(i) + name);
      }
    }
  }
  std::size_t compared = 0;
  for (const auto& [name, expected] : reference_["input_amax"].items()) {
    if (!inputs.contains(name)) continue;  // the head
    ExpectClose(inputs[name], expected, name);
    ++compared;
  }
  EXPECT_EQ(compared, inputs.size());
}

TEST_P(FamiliesInBothNamings, QuantizedInBothNamingsInspectedAndEvaluated) {
  for (const std::string format : {"fp8", "quark"}) {
    CommandResult result = Quantize({"--custom_mode", format, "--kv_cache_dtype", "fp8"});
    if (format == "quark" && !InQuarkNaming()) {
      EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kUnsupported));
      EXPECT_THAT(result.error, testing::HasSubstr("use --custom_mode fp8"));
      result = Quantize({"--custom_mode", format});
    }
    ASSERT_EQ(result.status, 0) << result.error;
    const Json evaluation = ReadJsonFile(Path("out/narrow-report.json"))["evaluation"];
    const Json inspected = ParseJson(RunNarrow({"inspect", Path("out"), "--json"}).output, "json");
    for (const Json& problem : inspected["problems"]) {
      EXPECT_THAT(problem["text"].get<std::string>(), testing::HasSubstr("there is no tokenizer"));
      EXPECT_FALSE(std::filesystem::exists(model_ + "/tokenizer.json"));
    }
    const CommandResult evaluated =
        EvaluateIds(Path("out"), reference_["tokens"], scratch_, Path("d.json"));
    ASSERT_EQ(evaluated.status, 0) << evaluated.error;
    EXPECT_THAT(ReadJsonFile(Path("d.json"))["window_nll"].get<std::vector<double>>(),
                Pointwise(DoubleNear(2e-3),
                          evaluation["window_nll"]["quantized"].get<std::vector<double>>()));
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, FamiliesInBothNamings,
                         testing::Values("gemma", "gemma2", "gemma3", "starcoder2", "nemotron",
                                         "cohere", "cohere2", "cohere-norms", "stablelm",
                                         "ministral", "glm4", "phi3"),
                         [](const auto& family) {
                           std::string name = family.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace narrow
