// What is no comparison is refused before a weight is read, with the difference.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ComparisonRefusal : public testing::Test {
 protected:
  ComparisonRefusal() { WriteTinyModel(Path("model"), {}); }

  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  void ExpectRefused(const std::string& reference, ErrorCode code,
                     const testing::Matcher<std::string>& message,
                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"evaluate",       "--reference",     Path(reference),
                                      "--model_dir",    Path("model"),     "--json",
                                      Path("out.json"), "--window_tokens", "256"};
    words.insert(words.end(), more.begin(), more.end());
    const CommandResult result = RunNarrow(words);
    EXPECT_EQ(result.status, static_cast<int>(code)) << result.error;
    EXPECT_THAT(result.LastErrorLine(), message);
    EXPECT_EQ(result.output, "");
    EXPECT_FALSE(fs::exists(Path("out.json")));
  }

  void ExpectDifference(const TinyModel& other, const std::string& what) const {
    WriteTinyModel(Path("other"), other);
    ExpectRefused("other", ErrorCode::kUnsupported, HasSubstr(what));
    fs::remove_all(Path("other"));
  }

  ScratchDirectory scratch_;
};

TEST_F(ComparisonRefusal, ModelsOfOtherShapes) {
  ExpectDifference({.vocabulary = 300}, "the vocabularies differ: 300 in --reference, 258 in");
  ExpectDifference({.layers = 3}, "the numbers of layers differ: 3 in --reference, 2 in");
  ExpectDifference({.hidden = 96}, "the hidden sizes differ: 96 in --reference, 64 in");
  ExpectDifference({.intermediate = 128}, "the linears of layer 0 differ");
  ExpectDifference({.key_value_heads = 4}, "the linears of layer 0 differ");
  ExpectDifference({.heads = 2, .key_value_heads = 1, .head_size = 32},
                   "query heads of layer 0 differ: 2 in --reference, 4 in");
}

TEST_F(ComparisonRefusal, OtherArchitectures) {
  WriteTinyModel(Path("other"), {});
  Json config = ReadJsonFile(Path("other/config.json"));
  config["architectures"] = {"MistralForCausalLM"};
  config["model_type"] = "mistral";
  WriteFile(Path("other/config.json"), config.dump());
  ExpectRefused("other", ErrorCode::kUnsupported,
                HasSubstr("the architectures differ: MistralForCausalLM in --reference, "
                          "LlamaForCausalLM in --model_dir"));
}

TEST_F(ComparisonRefusal, TokenizersThatGiveOtherTokens) {
  WriteTinyModel(Path("other"), {});
  Json tokenizer = ReadJsonFile(Path("other/tokenizer.json"));
  Json& vocabulary = tokenizer["model"]["vocab"];
  std::swap(vocabulary["a"], vocabulary["e"]);
  WriteFile(Path("other/tokenizer.json"), tokenizer.dump());
  ExpectRefused("other", ErrorCode::kUnsupported,
                HasSubstr("the tokenizers give other tokens for the evaluation text: token"));
  // Without one, the judged checkpoint takes the tokens of its reference.
  fs::remove(Path("model/tokenizer.json"));
  const CommandResult result =
      RunNarrow({"evaluate", "--reference", Path("other"), "--model_dir", Path("model"),
                 "--window_tokens", "256", "--eval_windows", "1"});
  EXPECT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("--model_dir has no tokenizer"));
}

TEST_F(ComparisonRefusal, PathsAndFlags) {
  ExpectRefused("missing", ErrorCode::kNotFound, HasSubstr("missing"));
  ExpectRefused("model", ErrorCode::kInvalidArgument, HasSubstr("--json"),
                {"--json", Path("model/config.json")});
  ExpectRefused("model", ErrorCode::kInvalidArgument, HasSubstr("--work_dir"),
                {"--work_dir", Path("model")});
  const CommandResult alone =
      RunNarrow({"evaluate", "--model_dir", Path("model"), "--attribution_windows", "2"});
  EXPECT_EQ(alone.status, static_cast<int>(ErrorCode::kInvalidArgument));
  EXPECT_THAT(alone.LastErrorLine(), HasSubstr("it needs --reference"));
}

// A checkpoint that is quantized is a reference of numbers, as it is a source of a quantization.
TEST_F(ComparisonRefusal, NotOfAQuantizedReferenceWhoseSchemesAreNotStated) {
  const CommandResult made =
      RunNarrow({"quantize", "--model_dir", Path("model"), "--output_dir", Path("fp8"),
                 "--num_calib_data", "4", "--seq_len", "64", "--skip_evaluation"});
  ASSERT_EQ(made.status, 0) << made.error;
  const CommandResult tried = RunNarrow({"quantize", "--model_dir", Path("fp8"), "--output_dir",
                                         Path("again"), "--num_calib_data", "4"});
  const CommandResult compared =
      RunNarrow({"evaluate", "--reference", Path("fp8"), "--model_dir", Path("model")});
  EXPECT_EQ(compared.status, tried.status) << compared.error;
  EXPECT_NE(compared.status, 0);
}

}  // namespace
}  // namespace narrow
