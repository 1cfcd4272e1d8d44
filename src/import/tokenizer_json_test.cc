#include "import/tokenizer_json.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "io/scratch_directory.h"
#include "tests/build_paths.h"

namespace narrow {
namespace {

constexpr const char* kSpaceMark = "\u2581";

std::string SharedPath(const std::string& name) {
  const char* directory = std::getenv("NARROW_SHARED_DIR");
  return std::string(directory != nullptr ? directory : NARROW_SOURCE_DIR "/../shared") + "/" +
         name;
}

// What a GGUF file holds of a tokenizer.json.
struct Lists {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
  std::vector<std::string> merges;
  std::vector<double> scores;
};

Lists ListsOf(const Json& tokenizer) {
  Lists lists;
  std::map<int64_t, std::string> by_id;
  for (const auto& [token, id] : tokenizer["model"]["vocab"].items()) {
    by_id[id.get<int64_t>()] = token;
  }
  for (const Json& token : tokenizer["added_tokens"]) {
    by_id[token["id"].get<int64_t>()] = token["content"].get<std::string>();
  }
  for (const auto& [id, token] : by_id) {
    NARROW_CHECK(id == std::ssize(lists.tokens));
    lists.tokens.push_back(token);
    lists.types.push_back(1);
  }
  for (const Json& token : tokenizer["added_tokens"]) {
    lists.types[token["id"].get<std::size_t>()] = kControlToken;
  }
  for (const Json& merge : tokenizer["model"]["merges"]) {
    lists.merges.push_back(merge.get<std::string>());
  }
  return lists;
}

bool IsRunOfSpaces(std::string_view token) {
  const std::string_view mark = kSpaceMark;
  if (token.size() <= mark.size()) return false;
  for (; !token.empty(); token.remove_prefix(mark.size())) {
    if (!token.starts_with(mark)) return false;
  }
  return true;
}

// All but merges written with scores; ignore_merges and byte_fallback may be left to their default.
void ExpectSame(const Json& made, const Json& reference) {
  for (const char* part : {"version", "truncation", "padding", "added_tokens", "normalizer",
                           "pre_tokenizer", "post_processor", "decoder"}) {
    EXPECT_EQ(made[part], reference[part]) << part;
  }
  for (const auto& [key, value] : reference["model"].items()) {
    EXPECT_TRUE(made["model"][key] == value) << key;
  }
}

TEST(TokenizerJson, OfLlama31IsTheModelsOwn) {
  const std::string path = SharedPath("data/tokenizers/llama-3.1/tokenizer.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path << "; set NARROW_SHARED_DIR";
  const Json reference = ReadJsonFile(path);
  const Lists lists = ListsOf(reference);
  TokenizerSource source;
  source.splitting = &FindWordSplitting("llama-bpe", "f.gguf");
  source.tokens = lists.tokens;
  source.types = lists.types;
  source.merges = &lists.merges;
  source.bos = 128000;
  source.eos = 128009;
  source.add_bos = true;
  ExpectSame(TokenizerJson(source, "f.gguf"), reference);
  const Json config = TokenizerConfigJson(source, 131072);
  EXPECT_EQ(config["bos_token"], "<|begin_of_text|>");
  EXPECT_EQ(config["eos_token"], "<|eot_id|>");
  EXPECT_TRUE(config["pad_token"].is_null());
  EXPECT_EQ(config["added_tokens_decoder"].size(), 256u);
}

// The merges are not in the GGUF file: they follow from the scores, which for this model are the
// negative rank, and the least for runs of spaces.
TEST(TokenizerJson, OfLlama2IsTheModelsOwnMergesIncluded) {
  const std::string path = SharedPath("data/tokenizers/llama-2/tokenizer.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path << "; set NARROW_SHARED_DIR";
  const Json reference = ReadJsonFile(path);
  Lists lists = ListsOf(reference);
  for (std::size_t id = 0; id < lists.tokens.size(); ++id) {
    const bool run = IsRunOfSpaces(lists.tokens[id]);
    lists.scores.push_back(run ? -1e9 : id < 259 ? 0.0 : 259.0 - static_cast<double>(id));
  }
  TokenizerSource source;
  source.kind = TokenizerKind::kSentencePiece;
  source.tokens = lists.tokens;
  source.types = lists.types;
  source.scores = &lists.scores;
  source.unknown = 0;
  source.bos = 1;
  source.eos = 2;
  source.add_bos = true;
  ExpectSame(TokenizerJson(source, "f.gguf"), reference);
}

// A small SentencePiece vocabulary.
class SentencePiece : public testing::Test {
 protected:
  SentencePiece() {
    source_.kind = TokenizerKind::kSentencePiece;
    source_.tokens = {"<unk>", "<s>", "</s>", "a", "b", "ab", "\u00e9", "a\u00e9"};
    source_.types = {2, 3, 3, 1, 1, 1, 1, 1};
    source_.scores = &scores_;
    source_.unknown = 0;
    source_.bos = 1;
    source_.eos = 2;
  }
  std::vector<double> scores_ = {0, 0, 0, -9, -9, -2, -9, -1};
  TokenizerSource source_;
};

TEST_F(SentencePiece, MergesFollowTheScoresAndKeepCharactersWhole) {
  EXPECT_EQ(TokenizerJson(source_, "f.gguf")["model"]["merges"], Json::array({"a \u00e9", "a b"}));
}

TEST_F(SentencePiece, MergesLeaveAddedTokensOut) {
  source_.types[5] = kUserDefinedToken;
  source_.tokens.push_back("aba");
  source_.types.push_back(1);
  scores_.push_back(-1);
  EXPECT_EQ(TokenizerJson(source_, "f.gguf")["model"]["merges"], Json::array({"a \u00e9"}));
}

TEST_F(SentencePiece, IdsRankWhereScoresDoNot) {
  source_.order = PieceOrder::kIds;
  source_.tokens[7] = "aba";
  source_.tokens.push_back("ba");
  source_.types.push_back(1);
  scores_.push_back(5);
  EXPECT_EQ(TokenizerJson(source_, "f.gguf")["model"]["merges"],
            Json::array({"a b", "ab a", "a ba", "b a"}));
}

TEST_F(SentencePiece, WithoutPrefixSpaceAndWithAnEnd) {
  source_.add_space_prefix = false;
  source_.add_eos = true;
  const Json json = TokenizerJson(source_, "f.gguf");
  EXPECT_EQ(json["normalizer"]["normalizers"].size(), 1u);
  EXPECT_EQ(json["decoder"]["decoders"].size(), 3u);
  const Json end = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
  EXPECT_EQ(json["post_processor"]["single"].back(), end);
  EXPECT_EQ(json["post_processor"]["single"].size(), 2u);
}

TEST_F(SentencePiece, RefusesAPieceTooLongToTakeApart) {
  source_.tokens[5] = std::string(1025, 'a');
  ExpectError(ErrorCode::kUnsupported, "1025 bytes", [&] { TokenizerJson(source_, "f.gguf"); });
}

TEST(TokenizerJson, RefusesMergesThatAreNotTwoWords) {
  const std::vector<std::string> tokens = {"a", "b", "ab"};
  const std::vector<int64_t> types = {1, 1, 1};
  for (const char* merge : {"ab", " ab", "ab ", "a b c", ""}) {
    const std::vector<std::string> merges = {merge};
    TokenizerSource source;
    source.tokens = tokens;
    source.types = types;
    source.merges = &merges;
    ExpectError(ErrorCode::kCorruptInput, "not two words",
                [&] { TokenizerJson(source, "f.gguf"); });
  }
}

}  // namespace
}  // namespace narrow
