#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "io/file.h"
#include "io/json.h"
#include "tests/build_paths.h"

namespace narrow {
namespace {

std::filesystem::path FromEnvironment(const char* name, std::filesystem::path otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::filesystem::path(value) : otherwise;
}

std::filesystem::path SharedDirectory() {
  return FromEnvironment("NARROW_SHARED_DIR",
                         std::filesystem::path(NARROW_SOURCE_DIR) / ".." / "shared");
}

std::vector<Json> ReadJsonLines(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(ParseJson(line, path.string()));
  return lines;
}

// Encodes the strings of golden/tokenizers/encode.jsonl and compares with the ids under `key`.
void ExpectGoldens(const Tokenizer& tokenizer, const std::string& key) {
  const std::vector<Json> lines =
      ReadJsonLines(SharedDirectory() / "golden" / "tokenizers" / "encode.jsonl");
  ASSERT_EQ(lines.size(), 50u);
  for (const Json& line : lines) {
    const std::string text = line["text"].get<std::string>();
    SCOPED_TRACE(text);
    EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kNone),
              line["without_special"][key].get<std::vector<int32_t>>());
    EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kAdd),
              line["with_special"][key].get<std::vector<int32_t>>());
  }
}

class SharedTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(SharedTokenizer, EncodesGoldens) {
  const std::filesystem::path directory = SharedDirectory() / "data" / "tokenizers" / GetParam();
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << "no " << directory;
  ExpectGoldens(Tokenizer::FromDirectory(directory), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, SharedTokenizer, testing::Values("llama-2", "llama-3.1"),
                         [](const auto& parameter) {
                           return std::string(parameter.param) == "llama-2" ? "Llama2" : "Llama3";
                         });

TEST(Tokenizer, EncodesGoldensOfImportedSmolLm2) {
  const std::filesystem::path directory =
      FromEnvironment("NARROW_SMOLLM2_DIR", std::filesystem::path(NARROW_BINARY_DIR) / "models" /
                                                "SmolLM2-135M-Instruct");
  if (!std::filesystem::exists(directory / "tokenizer.json")) {
    GTEST_SKIP() << "no imported checkpoint in " << directory << "; set NARROW_SMOLLM2_DIR";
  }
  if (!std::filesystem::exists(SharedDirectory())) GTEST_SKIP() << "no " << SharedDirectory();
  ExpectGoldens(Tokenizer::FromDirectory(directory), "smollm2");
}

// The published token count of the joined WikiText-2 test set with the Llama 3.1 tokenizer.
TEST(Tokenizer, CountsWikiTextTokens) {
  const std::filesystem::path directory = SharedDirectory() / "data";
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << "no " << directory;
  std::ifstream file(directory / "text" / "wiki.test.raw");
  std::string joined;
  for (std::string line; std::getline(file, line);) {
    if (line != " ") joined += line + "\n";
    joined += "\n\n";
  }
  joined.resize(joined.size() - 2);
  const Tokenizer tokenizer = Tokenizer::FromDirectory(directory / "tokenizers" / "llama-3.1");
  EXPECT_EQ(tokenizer.Encode(joined, SpecialTokens::kAdd).size(), 289077u);
}

// Joins rows [0, 400) as the reference did and compares all tokens of its windows.
TEST(Tokenizer, EncodesTextOfTinyLlama) {
  const std::filesystem::path golden = SharedDirectory() / "golden" / "tiny-llama3";
  if (!std::filesystem::exists(golden)) GTEST_SKIP() << "no " << golden;
  std::ifstream file(SharedDirectory() / "data" / "text" / "wiki.test.raw");
  std::string joined;
  std::string line;
  for (int row = 0; row < 400 && std::getline(file, line); ++row) {
    if (row > 0) joined += "\n\n";
    if (line != " ") joined += line + "\n";
  }
  const Tokenizer tokenizer = Tokenizer::FromDirectory(golden);
  const std::vector<int32_t> ids = tokenizer.Encode(joined, SpecialTokens::kAdd);
  std::vector<int32_t> expected;
  const Json reference = ReadJsonFile(golden / "reference.json");
  for (const Json& window : reference["tokens"]) {
    for (const Json& id : window) expected.push_back(id.get<int32_t>());
  }
  ASSERT_EQ(expected.size(), 1024u);
  ASSERT_GE(ids.size(), expected.size());
  EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.begin() + 1024), expected);
}

// One small tokenizer for each option; testdata/make_tokenizer_variants.py asked `tokenizers`.
TEST(Tokenizer, EncodesEveryVariantAsTheReference) {
  const std::filesystem::path path = std::filesystem::path(NARROW_SOURCE_DIR) / "src" / "text" /
                                     "testdata" / "tokenizer_variants.jsonl";
  const std::vector<Json> lines = ReadJsonLines(path);
  ASSERT_EQ(lines.size(), 34u);
  for (const Json& line : lines) {
    const std::string name = line["name"].get<std::string>();
    const Tokenizer tokenizer = Tokenizer::FromJson(line["tokenizer"].dump(), name);
    for (const Json& sample : line["cases"]) {
      const std::string text = sample["text"].get<std::string>();
      SCOPED_TRACE(name + ": " + text);
      EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kAdd),
                sample["with_special"].get<std::vector<int32_t>>());
      EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kNone),
                sample["without_special"].get<std::vector<int32_t>>());
    }
  }
}

// Every normalizer, pre-tokenizer, behaviour, affix and post-processor; tools/compare_tokenizers.py
// asked `tokenizers`, and compares on more strings.
TEST(Tokenizer, EncodesEveryKindAsTheReference) {
  const Json table = ReadJsonFile(std::filesystem::path(NARROW_SOURCE_DIR) / "src" / "text" /
                                  "testdata" / "tokenizer_kinds.json");
  ASSERT_EQ(table["kinds"].size(), 100u);
  for (const Json& kind : table["kinds"]) {
    const std::string name = kind["name"].get<std::string>();
    Json json = kind["members"];
    if (!kind["model"].is_null()) json["model"] = table[kind["model"].get<std::string>()];
    const Tokenizer tokenizer = Tokenizer::FromJson(json.dump(), name);
    for (const Json& sample : kind["cases"]) {
      const std::string text = sample[0].get<std::string>();
      SCOPED_TRACE(name + ": " + text);
      EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kAdd), sample[1].get<std::vector<int32_t>>());
      EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kNone),
                sample.back().get<std::vector<int32_t>>());
    }
  }
}

TEST(Tokenizer, KnowsTheBytesOfTokens) {
  const std::filesystem::path directory = SharedDirectory() / "data" / "tokenizers";
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << "no " << directory;
  const std::string text = "naïve\n 中文 😀 <|eot_id|>";
  const Tokenizer llama3 = Tokenizer::FromDirectory(directory / "llama-3.1");
  EXPECT_EQ(llama3.vocabulary_size(), 128256);
  EXPECT_EQ(llama3.TokenText(128000), "<|begin_of_text|>");
  EXPECT_EQ(llama3.TokenText(-1), "");
  EXPECT_EQ(llama3.TokenText(128256), "");
  std::string joined;
  for (const int32_t id : llama3.Encode(text, SpecialTokens::kNone)) joined += llama3.TokenText(id);
  EXPECT_EQ(joined, text);

  const Tokenizer llama2 = Tokenizer::FromDirectory(directory / "llama-2");
  EXPECT_EQ(llama2.vocabulary_size(), 32000);
  joined.clear();
  for (const int32_t id : llama2.Encode(text, SpecialTokens::kNone)) joined += llama2.TokenText(id);
  EXPECT_EQ(joined, " " + text);
}

TEST(Tokenizer, GivesTheSameIdsOnManyThreads) {
  const std::filesystem::path golden = SharedDirectory() / "golden" / "tiny-llama3";
  if (!std::filesystem::exists(golden)) GTEST_SKIP() << "no " << golden;
  const Tokenizer tokenizer = Tokenizer::FromDirectory(golden);
  const std::string text =
      ReadWholeFile(SharedDirectory() / "data" / "text" / "wiki.test.raw", 1 << 22)
          .substr(0, 100000);
  const std::vector<int32_t> expected = tokenizer.Encode(text, SpecialTokens::kAdd);
  std::vector<std::vector<int32_t>> results(4);
  {
    std::vector<std::jthread> threads;
    for (auto& result : results) {
      threads.emplace_back([&] { result = tokenizer.Encode(text, SpecialTokens::kAdd); });
    }
  }
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace narrow
