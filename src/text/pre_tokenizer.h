// Member "pre_tokenizer" of a tokenizer.json: how a text is cut into words.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/json.h"
#include "text/regex.h"

namespace narrow {

// Sequence, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit,
// BertPreTokenizer, FixedLength, Metaspace and ByteLevel. Immutable after construction,
// thread-safe.
class PreTokenizer {
 public:
  // Where a text stands in the input: Metaspace may put a mark in front of the first word only.
  enum class Position { kStart, kInside };
  using Sink = std::function<void(std::string_view)>;

  // Reads the member of `tokenizer`, which may be null or absent. Throws: kUnsupported naming
  // another pre-tokenizer; kCorruptInput.
  PreTokenizer(const Json& tokenizer, std::string_view what);

  // Whether the words are bytes that the model's vocabulary spells in the byte-level alphabet: when
  // ByteLevel comes last. They are handed out as they are.
  bool byte_level() const { return byte_level_; }
  // Whether the words come spelled in that alphabet: when steps follow that look at the spelling.
  bool spelled() const { return spelled_; }
  // Hands every word, none of them empty, to `sink`; the views live as long as the call. REQUIRES:
  // `text` is valid UTF-8, not empty.
  void Split(std::string_view text, Position position, const Sink& sink) const {
    Run(0, text, position, sink);
  }

 private:
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prepend { kFirst, kAlways, kNever };

  struct RegexSplit {
    Regex pattern;
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
  };
  struct ClassSplit {
    bool (*contains)(char32_t) = nullptr;
    Behavior behavior = Behavior::kIsolated;
  };
  struct SpacePrefix {};  // ByteLevel's add_prefix_space
  struct Spelling {};     // bytes to their characters
  struct Metaspace {
    std::string replacement;
    Prepend prepend = Prepend::kAlways;
  };
  using Step = std::variant<RegexSplit, ClassSplit, SpacePrefix, Spelling, Metaspace>;
  class Joiner;

  void Add(const Json& pre_tokenizer, std::string_view what, int depth);
  bool AddClassSplit(const Json& pre_tokenizer, std::string_view type, std::string_view what);
  bool AddPatternSplit(const Json& pre_tokenizer, std::string_view type, std::string_view what);
  void AddSplit(const Json& pre_tokenizer, std::string_view what);
  static Behavior ReadBehavior(const std::string& name, std::string_view what);
  void AddMetaspace(const Json& pre_tokenizer, std::string_view what);
  void AddByteLevel(const Json& pre_tokenizer, std::string_view what);
  void Run(std::size_t step, std::string_view text, Position position, const Sink& sink) const;
  void RunRegex(const RegexSplit& split, std::string_view text, Joiner& joiner) const;
  void RunClass(const ClassSplit& split, std::string_view text, Joiner& joiner) const;
  std::string MarkSpaces(const Metaspace& step, std::string_view text, Position position) const;

  std::vector<Step> steps_;
  bool byte_level_ = false;
  bool spelled_ = false;
};

}  // namespace narrow
