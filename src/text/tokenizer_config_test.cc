// Added tokens that stand beside a tokenizer.json, and not in it.
#include "text/tokenizer_config.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

// testdata/make_tokenizer_configs.py asked transformers.
TEST(TokenizerConfig, AddsTokensAsTheReference) {
  const Json table =
      ReadJsonFile(std::string(NARROW_SOURCE_DIR) + "/src/text/testdata/tokenizer_configs.json");
  ASSERT_EQ(table["kinds"].size(), 7u);
  for (const Json& kind : table["kinds"]) {
    const ScratchDirectory directory;
    const Json tokenizer = {{"added_tokens", kind["added_tokens"]}, {"model", table["model"]}};
    directory.Put("tokenizer.json", tokenizer.dump());
    for (const auto& [name, content] : kind["files"].items()) directory.Put(name, content.dump());
    const Tokenizer read = Tokenizer::FromDirectory(directory.path().string());
    for (const Json& sample : kind["cases"]) {
      const std::string text = sample[0].get<std::string>();
      EXPECT_EQ(read.Encode(text, SpecialTokens::kNone), sample[1].get<std::vector<int32_t>>())
          << kind["name"] << ": " << text;
    }
  }
}

TEST(TokenizerConfig, RefusesWhatContradictsTheTokenizer) {
  const ErrorCode code = ErrorCode::kCorruptInput;
  const std::tuple<const char*, const char*, const char*> refusals[] = {
      {"tokenizer_config.json", "[]", "expected an object"},
      {"tokenizer_config.json", "{", "not valid JSON"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": []})", "added_tokens_decoder"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "c"}}})", "\"x\""},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"-1": {"content": "c"}}})", "\"-1\""},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"1": "c"}})", "no object"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"7": {"content": "c"}}})",
       "makes it 2"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"1": {"content": "a"}}})",
       "makes it 0"},
      {"tokenizer_config.json", R"({"bos_token": 3})", "bos_token"},
      {"added_tokens.json", R"({"c": "2"})", "no integer"},
      {"added_tokens.json", R"({"c": 9})", "makes it 2"},
  };
  for (const auto& [name, content, part] : refusals) {
    const ScratchDirectory directory;
    directory.Put("tokenizer.json", R"({"model": {"vocab": {"a": 0, "b": 1}, "merges": []}})");
    directory.Put(name, content);
    ExpectError(code, part, [&] { Tokenizer::FromDirectory(directory.path().string()); });
  }
}

}  // namespace
}  // namespace narrow
