// narrow tokenize against the ids of Hugging Face tokenizers.
#include <gtest/gtest.h>

#include <sstream>
#include <vector>

#include "io/json.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

class Tokenize : public testing::TestWithParam<std::string> {
 protected:
  static std::string Model() {
    return GetParam() == "smollm2" ? SmolLm2Path() : SharedPath("data/tokenizers/" + GetParam());
  }

  // The ids of every text equal the golden ones of the member.
  static void ExpectGolden(const std::string& member, const std::vector<std::string>& flags) {
    const std::string golden = SharedPath("golden/tokenizers/encode.jsonl");
    if (golden.empty() || Model().empty()) GTEST_SKIP() << "golden ids or tokenizer not there";
    std::vector<std::string> arguments = {"tokenize", "--model_dir", Model(), "--input_file",
                                          golden};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const CommandResult result = RunNarrow(arguments);
    ASSERT_EQ(result.status, 0) << result.error;
    const std::vector<std::string> texts = Lines(ReadFile(golden));
    const std::vector<std::string> ids = Lines(result.output);
    ASSERT_GE(texts.size(), 50u);
    ASSERT_EQ(ids.size(), texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const Json text = ParseJson(texts[i], "golden");
      EXPECT_EQ(ParseJson(ids[i], "ids"), text[member][GetParam()]) << text["text"];
    }
  }
};

TEST_P(Tokenize, WithSpecialTokens) { ExpectGolden("with_special", {}); }

TEST_P(Tokenize, WithoutSpecialTokens) { ExpectGolden("without_special", {"--no_special_tokens"}); }

INSTANTIATE_TEST_SUITE_P(Golden, Tokenize, testing::Values("llama-3.1", "llama-2", "smollm2"),
                         [](const auto& tokenizer) {
                           std::string name = tokenizer.param;
                           std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
                           return name;
                         });

}  // namespace
}  // namespace narrow
