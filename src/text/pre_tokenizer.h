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

// Sequence, Split, Digits, Metaspace and ByteLevel. Immutable after construction, thread-safe.
class PreTokenizer {
 public:
  // Where a text stands in the input: Metaspace may put a mark in front of the first word only.
  enum class Position { kStart, kInside };
  using Sink = std::function<void(std::string_view)>;

  // Reads the member of `tokenizer`, which may be null or absent. Throws: kUnsupported naming
  // another pre-tokenizer, and ByteLevel anywhere but at the end; kCorruptInput.
  PreTokenizer(const Json& tokenizer, std::string_view what);

  // Whether the model takes bytes, spelled in the byte-level alphabet.
  bool byte_level() const { return byte_level_; }
  // Hands every word, none of them empty, to `sink`; the views live as long as the call. Words of
  // a byte-level tokenizer are plain bytes. REQUIRES: `text` is valid UTF-8, not empty.
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
  struct DigitsSplit {
    bool individual = false;
  };
  struct SpacePrefix {};  // ByteLevel's add_prefix_space
  struct Metaspace {
    std::string replacement;
    Prepend prepend = Prepend::kAlways;
  };
  using Step = std::variant<RegexSplit, DigitsSplit, SpacePrefix, Metaspace>;
  class Joiner;

  void Add(const Json& pre_tokenizer, std::string_view what, int depth);
  void AddSplit(const Json& pre_tokenizer, std::string_view what);
  void AddMetaspace(const Json& pre_tokenizer, std::string_view what);
  void AddByteLevel(const Json& pre_tokenizer, std::string_view what);
  void Run(std::size_t step, std::string_view text, Position position, const Sink& sink) const;
  void RunRegex(const RegexSplit& split, std::string_view text, Joiner& joiner) const;
  void RunDigits(const DigitsSplit& split, std::string_view text, Joiner& joiner) const;
  std::string MarkSpaces(const Metaspace& step, std::string_view text, Position position) const;

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace narrow
