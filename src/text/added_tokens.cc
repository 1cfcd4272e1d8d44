#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace narrow {
namespace {

bool IsSpaceAt(std::string_view text, int64_t offset) {
  return IsWhiteSpace(DecodeUtf8(text, offset));
}

bool IsWordAt(std::string_view text, int64_t offset) {
  static const Regex word(kRustWordClass);
  const int64_t length = Utf8Length(text[static_cast<std::size_t>(offset)]);
  return word.Find(text.substr(static_cast<std::size_t>(offset), length), 0).has_value();
}

bool StandsAlone(std::string_view text, TextRange range) {
  const auto size = static_cast<int64_t>(text.size());
  return (range.begin == 0 || !IsWordAt(text, PreviousUtf8(text, range.begin))) &&
         (range.end == size || !IsWordAt(text, range.end));
}

TextRange Widen(std::string_view text, TextRange range, const AddedToken& token, int64_t from) {
  const auto size = static_cast<int64_t>(text.size());
  if (token.strip_left) {
    int64_t begin = range.begin;
    while (begin > 0 && IsSpaceAt(text, PreviousUtf8(text, begin))) {
      begin = PreviousUtf8(text, begin);
    }
    range.begin = std::max(begin, from);  // spaces may already belong to the token before
  }
  if (token.strip_right) {
    while (range.end < size && IsSpaceAt(text, range.end)) {
      range.end += Utf8Length(text[static_cast<std::size_t>(range.end)]);
    }
  }
  return range;
}

}  // namespace

AddedToken ReadAddedToken(const Json& item, std::string_view what, bool special) {
  AddedToken token;
  token.content = RequiredString(item, "content", what);
  token.single_word = OptionalBool(item, "single_word", what).value_or(false);
  token.strip_left = OptionalBool(item, "lstrip", what).value_or(false);
  token.strip_right = OptionalBool(item, "rstrip", what).value_or(false);
  special = OptionalBool(item, "special", what).value_or(special);
  token.normalized = OptionalBool(item, "normalized", what).value_or(!special);
  return token;
}

void ReadAddedTokens(const Json& tokenizer, std::string_view what, AddedTokenList& list) {
  const Json* items = OptionalArray(tokenizer, "added_tokens", what);
  if (items == nullptr) return;
  for (const Json& item : *items) {
    if (!item.is_object()) {
      Fail(ErrorCode::kCorruptInput, "{}: added_tokens has an entry that is no object", what);
    }
    list.Add(ReadAddedToken(item, what), RequiredInt(item, "id", what));
  }
}

void AddedTokenList::Add(AddedToken token, std::optional<int64_t> id) {
  if (token.content.empty()) return;  // can never be found
  const auto known = index_.find(token.content);
  int64_t expected = model_.Find(token.content).value_or(static_cast<int32_t>(next_id_));
  if (known != index_.end()) expected = tokens_[known->second].id;
  if (id.value_or(expected) != expected) {
    Fail(ErrorCode::kCorruptInput, "{}: added token {} says id {}, but the vocabulary makes it {}",
         what_, Quoted(token.content), *id, expected);
  }
  if (expected >= kMaxTokenIds) {
    Fail(ErrorCode::kUnsupported, "{}: more than {} tokens are not supported", what_, kMaxTokenIds);
  }
  token.id = static_cast<int32_t>(expected);
  if (known != index_.end()) {
    tokens_[known->second] = std::move(token);
    return;
  }
  next_id_ = std::max(next_id_, expected + 1);
  index_.emplace(token.content, tokens_.size());
  tokens_.push_back(std::move(token));
}

bool AddedTokenList::Contains(std::string_view content) const {
  return index_.contains(std::string(content));
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens,
                                   const std::vector<std::string>& patterns)
    : tokens_(tokens) {
  NARROW_CHECK(tokens.size() == patterns.size());
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (patterns[i].empty()) continue;
    index_.emplace(patterns[i], i);
    lengths_[static_cast<uint8_t>(patterns[i][0])].push_back(
        static_cast<int64_t>(patterns[i].size()));
  }
  for (std::vector<int64_t>& lengths : lengths_) {
    std::sort(lengths.begin(), lengths.end(), std::greater<>());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  }
}

std::optional<AddedTokenFinder::Match> AddedTokenFinder::Find(std::string_view text,
                                                              int64_t from) const {
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t i = from; i < size; ++i) {
    for (const int64_t length : lengths_[static_cast<uint8_t>(text[static_cast<std::size_t>(i)])]) {
      if (length > size - i) continue;
      const auto found = index_.find(std::string(text.substr(static_cast<std::size_t>(i), length)));
      if (found == index_.end()) continue;
      return Match{{i, i + length}, &tokens_[found->second]};
    }
  }
  return std::nullopt;
}

void AddedTokenFinder::Split(std::string_view text, const std::function<void(TextRange)>& text_part,
                             const std::function<void(int32_t)>& token) const {
  const auto size = static_cast<int64_t>(text.size());
  int64_t from = 0;    // first byte that no token has taken
  int64_t search = 0;  // first byte where the next token may start; behind `from` after strip_right
  while (const std::optional<Match> match = Find(text, search)) {
    search = match->range.end;
    if (match->token->single_word && !StandsAlone(text, match->range)) continue;
    const TextRange range = Widen(text, match->range, *match->token, from);
    if (from < range.begin) text_part({from, range.begin});
    token(match->token->id);
    from = range.end;
  }
  if (from < size) text_part({from, size});
}

}  // namespace narrow
