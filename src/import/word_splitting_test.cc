#include "import/word_splitting.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "import/gguf_import.h"
#include "import/handmade_model.h"
#include "io/scratch_directory.h"
#include "text/byte_level.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

// The words of a text: every byte is a token, and another one at the end of a word.
std::vector<std::string> Words(const WordSplitting& splitting, const std::string& text) {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const std::string character(ByteLevelCharacter(static_cast<uint8_t>(byte)));
    vocabulary[character] = byte;
    vocabulary[character + "</w>"] = 256 + byte;
  }
  const Json json = {{"pre_tokenizer", splitting.pre_tokenizer()},
                     {"model",
                      {{"type", "BPE"},
                       {"vocab", std::move(vocabulary)},
                       {"merges", Json::array()},
                       {"end_of_word_suffix", "</w>"}}}};
  std::vector<std::string> words(1);
  for (const int32_t id :
       Tokenizer::FromJson(json.dump(), "f").Encode(text, SpecialTokens::kNone)) {
    words.back() += static_cast<char>(id % 256);
    if (id >= 256) words.emplace_back();
  }
  words.pop_back();
  return words;
}

// What `tokenizers` makes of each model's own pre-tokenizer.
TEST(WordSplitting, CutsAsTheModels) {
  const std::string text = "I'LL mixedCase 12345+\n/ x";
  const std::pair<const char*, std::vector<std::string>> expected[] = {
      {"llama-bpe", {"I", "'LL", " mixedCase", " ", "123", "45", "+\n", "/", " x"}},
      {"smollm",
       {"I", "'", "LL", " mixedCase", " ", "1", "2", "3", "4", "5", "+", "\n", "/", " x"}},
      {"gpt-2", {"I", "'", "LL", " mixedCase", " 12345", "+", "\n", "/", " x"}},
      {"qwen2", {"I", "'LL", " mixedCase", " ", "1", "2", "3", "4", "5", "+\n", "/", " x"}},
      {"seed-coder",
       {"I", "'LL", " mixedCase", " ", "1", "2", "3", "4", "5", "+", "\n", "/", " x"}},
      {"tekken", {"I", "'LL", " mixed", "Case", " ", "1", "2", "3", "4", "5", "+\n/", " x"}},
      {"gpt-4o", {"I'LL", " mixed", "Case", " ", "123", "45", "+\n/", " x"}},
      {"deepseek-v3", {"I", "'LL", " mixedCase", " ", "123", "45", "+\n", "/", " x"}},
      {"deepseek-coder",
       {"I", "'", "LL", " mixedCase", " ", "1", "2", "3", "4", "5", "+", "\n", "/", " x"}},
  };
  for (const auto& [name, words] : expected) {
    EXPECT_EQ(Words(FindWordSplitting(name, "f"), text), words) << name;
  }
}

TEST(WordSplitting, NamesOfTheSameSplittingDifferInNothingElseThanTheirModelsDo) {
  const WordSplitting& llama = FindWordSplitting("llama-bpe", "f");
  for (const char* name : {"llama3", "llama-v3", "falcon3"}) {
    const WordSplitting& same = FindWordSplitting(name, "f");
    EXPECT_EQ(same.pre_tokenizer(), llama.pre_tokenizer()) << name;
    EXPECT_TRUE(same.ignore_merges && same.add_bos && !same.nfc) << name;
  }
  const WordSplitting& smaug = FindWordSplitting("smaug-bpe", "f");
  EXPECT_EQ(smaug.pre_tokenizer(), llama.pre_tokenizer());
  EXPECT_FALSE(smaug.ignore_merges || smaug.add_bos);
  EXPECT_TRUE(FindWordSplitting("qwen2", "f").nfc);
  EXPECT_EQ(FindWordSplitting("dbrx", "f").pre_tokenizer(), llama.pre_tokenizer());
  const WordSplitting& command_r = FindWordSplitting("command-r", "f");
  EXPECT_EQ(command_r.pre_tokenizer(), FindWordSplitting("starcoder", "f").pre_tokenizer());
  EXPECT_TRUE(command_r.nfc);
}

TEST(WordSplitting, OfAFileThatDoesNotSayIsGiven) {
  const ScratchDirectory scratch;
  SilentProgress progress;
  HandmadeModel model;
  model.Without("tokenizer.ggml.pre");
  const std::filesystem::path file = scratch.Put("f.gguf", model.Build());
  ImportOptions options;
  options.pre_tokenizer = "qwen2";
  ImportGguf(file, scratch.path() / "m", options, progress);
  const Json json = ReadJsonFile(scratch.path() / "m" / "tokenizer.json");
  EXPECT_EQ(json["normalizer"]["type"], "NFC");
  EXPECT_EQ(json["pre_tokenizer"], FindWordSplitting("qwen2", "f").pre_tokenizer());
  options.pre_tokenizer = "other";
  ExpectError(ErrorCode::kUnsupported, "smaug-bpe",
              [&] { ImportGguf(file, scratch.path() / "n", options, progress); });
  model.Text("tokenizer.ggml.model", "llama").Floats("tokenizer.ggml.scores", {0, 0, 0, 0});
  const std::filesystem::path pieces = scratch.Put("p.gguf", model.Build());
  ExpectError(ErrorCode::kInvalidArgument, "needs none",
              [&] { ImportGguf(pieces, scratch.path() / "n", options, progress); });
}

}  // namespace
}  // namespace narrow
