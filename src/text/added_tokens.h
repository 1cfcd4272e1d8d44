// Member "added_tokens" of a tokenizer.json: strings that are found in the text before the model
// sees it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/json.h"
#include "text/bpe_model.h"
#include "text/normalizer.h"
#include "text/regex.h"

namespace narrow {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false;  // only where no word character stands beside it
  bool strip_left = false;   // takes the white space before it
  bool strip_right = false;
  bool normalized = false;  // looked for in the normalized text
};

// The added tokens of a tokenizer, each with the id that `tokenizers` gives it: the vocabulary's,
// else the next free one.
class AddedTokenList {
 public:
  // `what` names the tokenizer in messages; both must outlive the list.
  AddedTokenList(const BpeModel& model, std::string_view what)
      : model_(model), what_(what), next_id_(model.size()) {}

  // Adds the token, or gives the one of the same content these flags. `id` is what the file says.
  // Throws: kCorruptInput when that is another one than the token has or would get.
  void Add(AddedToken token, std::optional<int64_t> id);
  bool Contains(std::string_view content) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  const BpeModel& model_;
  std::string_view what_;
  int64_t next_id_;
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> index_;  // content -> position in tokens_
};

// Content and flags as a file writes them; `special` stands where it says nothing. Throws:
// kCorruptInput for wrong types.
AddedToken ReadAddedToken(const Json& item, std::string_view what, bool special = false);

// Adds member "added_tokens" of a tokenizer.json. Throws: kCorruptInput for wrong types, and as the
// list does.
void ReadAddedTokens(const Json& tokenizer, std::string_view what, AddedTokenList& list);

// Finds added tokens, the leftmost first and the longest among those. Thread-safe.
class AddedTokenFinder {
 public:
  // `patterns[i]` is what to look for in place of tokens[i].content.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, const std::vector<std::string>& patterns);

  // Calls `text_part(range)` and `token(id)` in the order of the text; every range is not empty.
  void Split(std::string_view text, const std::function<void(TextRange)>& text_part,
             const std::function<void(int32_t)>& token) const;

 private:
  struct Match {
    TextRange range;
    const AddedToken* token = nullptr;
  };
  std::optional<Match> Find(std::string_view text, int64_t from) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> index_;  // pattern -> position in tokens_
  std::array<std::vector<int64_t>, 256> lengths_;       // of patterns by first byte, longest first
};

}  // namespace narrow
