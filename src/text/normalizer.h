// Member "normalizer" of a tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/json.h"
#include "text/regex.h"
#include "text/unicode_text.h"

namespace narrow {

// NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, ByteLevel and Sequence.
// Immutable after construction, thread-safe.
class Normalizer {
 public:
  // Reads the member of `tokenizer`, which may be null or absent. Throws: kUnsupported naming
  // another normalizer; kCorruptInput.
  Normalizer(const Json& tokenizer, std::string_view what);

  bool empty() const { return steps_.empty(); }
  // Whether it spells bytes in the byte-level alphabet.
  bool byte_level() const { return byte_level_; }
  struct Result {
    std::string text;
    // Whether it begins with what `text` began with: Metaspace asks, as the reference does by
    // offsets.
    bool keeps_start = true;
  };
  // REQUIRES: `text` is valid UTF-8.
  Result Normalize(std::string_view text) const;

 private:
  enum class Whole { kLowercase, kStripAccents, kByteLevel };  // what needs no more than the text
  struct Strip {
    bool left = false;
    bool right = false;
  };
  struct Prepend {
    std::string content;
  };
  struct Replace {
    Regex pattern;
    std::string content;
  };
  using Step = std::variant<NormalForm, Whole, Strip, Prepend, Replace>;
  void Add(const Json& normalizer, std::string_view what, int depth);
  static void Apply(const Step& step, std::size_t original_bytes, Result& result);
  static void ReplaceAll(const Replace& step, std::size_t original_bytes, Result& result);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

// A "pattern" member: {"String": text} or {"Regex": pattern}; an empty String matches between all
// characters. Throws: kCorruptInput, kUnsupported.
Regex ReadPattern(const Json& owner, std::string_view what);

}  // namespace narrow
