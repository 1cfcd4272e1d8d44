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

// Throws: kCorruptInput for wrong types, a token or an id given twice, and an id other than the one
// `tokenizers` assigns (the vocabulary's, else the next free one).
std::vector<AddedToken> ReadAddedTokens(const Json& tokenizer, const BpeModel& model,
                                        std::string_view what);

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
