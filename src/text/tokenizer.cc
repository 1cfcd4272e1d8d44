#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "text/added_tokens.h"
#include "text/bpe_model.h"
#include "text/missing_tokenizer.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/utf8.h"

namespace narrow {
namespace {

constexpr int64_t kMaxTokenizerBytes = int64_t{256} << 20;
constexpr int64_t kMaxTextBytes = int64_t{1} << 29;

const Json& RequiredModel(const Json& json, std::string_view what) {
  const Json* model = OptionalObject(json, "model", what);
  if (model == nullptr) {
    Fail(ErrorCode::kCorruptInput, "{}: expected an object with member model", what);
  }
  return *model;
}

std::vector<AddedToken> Select(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> selected;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(selected),
               [=](const AddedToken& token) { return token.normalized == normalized; });
  return selected;
}

std::vector<std::string> Patterns(const std::vector<AddedToken>& tokens,
                                  const Normalizer& normalizer) {
  std::vector<std::string> patterns;
  for (const AddedToken& token : tokens) {
    patterns.push_back(token.normalized ? normalizer.Normalize(token.content).text : token.content);
  }
  return patterns;
}

AddedTokenFinder MakeFinder(const std::vector<AddedToken>& tokens, const Normalizer& normalizer,
                            bool normalized) {
  const std::vector<AddedToken> selected = Select(tokens, normalized);
  return AddedTokenFinder(selected, Patterns(selected, normalizer));
}

std::vector<AddedToken> AllAddedTokens(const Json& json, const TokenizerConfig& config,
                                       const BpeModel& model, std::string_view what) {
  AddedTokenList list(model, what);
  ReadAddedTokens(json, what, list);
  config.AddTo(list);
  return list.tokens();
}

BpeAlphabet Alphabet(const Normalizer& normalizer, const PreTokenizer& pre_tokenizer) {
  if (pre_tokenizer.byte_level()) return BpeAlphabet::kBytes;
  const bool spelled = pre_tokenizer.spelled() || normalizer.byte_level();
  return spelled ? BpeAlphabet::kSpelledBytes : BpeAlphabet::kCharacters;
}

}  // namespace

struct Tokenizer::Implementation {
  Implementation(const Json& json, const TokenizerConfig& config, std::string_view what);

  std::vector<int32_t> Encode(std::string_view text, BpeModel::Scratch& scratch) const;

  // Scratch memory goes from call to call, so that its word cache stays warm.
  std::unique_ptr<BpeModel::Scratch> TakeScratch();
  void ReturnScratch(std::unique_ptr<BpeModel::Scratch> scratch);

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  PostProcessor post_processor;
  std::vector<AddedToken> added_tokens;
  AddedTokenFinder raw_finder;         // in the text as it comes
  AddedTokenFinder normalized_finder;  // in the normalized text
  int64_t vocabulary_size = 0;
  std::unordered_map<int32_t, std::string> token_bytes;  // ids may be sparse
  std::mutex mutex;
  std::vector<std::unique_ptr<BpeModel::Scratch>> idle_scratch;
};

Tokenizer::Implementation::Implementation(const Json& json, const TokenizerConfig& config,
                                          std::string_view what)
    : normalizer(json, what),
      pre_tokenizer(json, what),
      model(RequiredModel(json, what), Alphabet(normalizer, pre_tokenizer), what),
      post_processor(json, what),
      added_tokens(AllAddedTokens(json, config, model, what)),
      raw_finder(MakeFinder(added_tokens, normalizer, false)),
      normalized_finder(MakeFinder(added_tokens, normalizer, true)) {
  int32_t largest = std::max(model.largest_id(), post_processor.largest_id());
  for (const AddedToken& token : added_tokens) largest = std::max(largest, token.id);
  vocabulary_size = int64_t{largest} + 1;
  token_bytes.reserve(model.vocabulary().size() + added_tokens.size());
  for (const auto& [token, id] : model.vocabulary()) token_bytes[id] = model.TokenBytes(token);
  for (const AddedToken& token : added_tokens) token_bytes[token.id] = token.content;
}

std::vector<int32_t> Tokenizer::Implementation::Encode(std::string_view text,
                                                       BpeModel::Scratch& scratch) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  const auto add_token = [&](int32_t id) { ids.push_back(id); };
  const PreTokenizer::Sink add_word = [&](std::string_view word) {
    model.Encode(word, scratch, ids);
  };
  const auto add_text = [&](TextRange range) {
    const std::string_view section = text.substr(static_cast<std::size_t>(range.begin),
                                                 static_cast<std::size_t>(range.end - range.begin));
    const Normalizer::Result owned =
        normalizer.empty() ? Normalizer::Result() : normalizer.Normalize(section);
    const std::string_view normalized = normalizer.empty() ? section : owned.text;
    const auto add_part = [&](TextRange part) {
      const bool start = range.begin == 0 && part.begin == 0 && owned.keeps_start;
      pre_tokenizer.Split(normalized.substr(static_cast<std::size_t>(part.begin),
                                            static_cast<std::size_t>(part.end - part.begin)),
                          start ? PreTokenizer::Position::kStart : PreTokenizer::Position::kInside,
                          add_word);
    };
    normalized_finder.Split(normalized, add_part, add_token);
  };
  raw_finder.Split(text, add_text, add_token);
  return ids;
}

std::unique_ptr<BpeModel::Scratch> Tokenizer::Implementation::TakeScratch() {
  const std::lock_guard lock(mutex);
  if (idle_scratch.empty()) return std::make_unique<BpeModel::Scratch>();
  std::unique_ptr<BpeModel::Scratch> scratch = std::move(idle_scratch.back());
  idle_scratch.pop_back();
  return scratch;
}

void Tokenizer::Implementation::ReturnScratch(std::unique_ptr<BpeModel::Scratch> scratch) {
  // What one huge word needed is not kept.
  constexpr std::size_t kKeptSymbols = 1 << 20;
  if (scratch->merge.symbols.capacity() > kKeptSymbols) scratch->merge = MergeScratch();
  const std::lock_guard lock(mutex);
  idle_scratch.push_back(std::move(scratch));
}

Tokenizer::Tokenizer(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::FromJson(std::string_view json, std::string_view what) {
  const JsonLimits limits{.max_bytes = kMaxTokenizerBytes, .non_finite = NonFinite::kRefused};
  return Tokenizer(
      std::make_unique<Implementation>(ParseJson(json, what, limits), TokenizerConfig(), what));
}

Tokenizer Tokenizer::FromDirectory(const std::string& directory) {
  const std::filesystem::path path = std::filesystem::path(directory) / "tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) FailWithoutTokenizer(directory);
  JsonLimits limits;
  limits.max_bytes = kMaxTokenizerBytes;
  const Json json = ParseJson(ReadWholeFile(path, kMaxTokenizerBytes), path.string(), limits);
  return Tokenizer(
      std::make_unique<Implementation>(json, TokenizerConfig(directory), path.string()));
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, SpecialTokens special_tokens) const {
  if (static_cast<int64_t>(text.size()) > kMaxTextBytes) {
    Fail(ErrorCode::kUnsupported, "text of {} bytes; at most {} can be encoded at once",
         text.size(), kMaxTextBytes);
  }
  if (const int64_t offset = FindInvalidUtf8(text); offset >= 0) {
    Fail(ErrorCode::kCorruptInput, "text is not valid UTF-8 at byte {} (0x{:02x})", offset,
         static_cast<uint8_t>(text[static_cast<std::size_t>(offset)]));
  }
  std::unique_ptr<BpeModel::Scratch> scratch = implementation_->TakeScratch();
  std::vector<int32_t> ids = implementation_->Encode(text, *scratch);
  implementation_->ReturnScratch(std::move(scratch));
  const PostProcessor& post_processor = implementation_->post_processor;
  return special_tokens == SpecialTokens::kAdd ? post_processor.AddSpecialTokens(std::move(ids))
                                               : post_processor.Pass(std::move(ids));
}

std::vector<int32_t> Tokenizer::LeadingSpecialTokens() const {
  constexpr int32_t kText = -1;  // no id
  std::vector<int32_t> ids = implementation_->post_processor.AddSpecialTokens({kText});
  ids.erase(std::find(ids.begin(), ids.end(), kText), ids.end());
  return ids;
}

int64_t Tokenizer::vocabulary_size() const { return implementation_->vocabulary_size; }

std::string Tokenizer::TokenText(int32_t id) const {
  const auto found = implementation_->token_bytes.find(id);
  return found == implementation_->token_bytes.end() ? std::string() : found->second;
}

}  // namespace narrow
