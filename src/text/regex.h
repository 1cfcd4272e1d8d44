// Regular expressions of a tokenizer.json: written for Oniguruma, matched by PCRE2 with its JIT.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace narrow {

// Bytes [begin, end) of a text.
struct TextRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool empty() const { return begin == end; }
};

// Rewrites an Oniguruma pattern so that PCRE2 (UTF, UCP, multi-line) matches the same: \s, \d, \w
// and the properties L, M, N, Nd become classes with the members Oniguruma 6.9.10 (Unicode 16)
// gives them; other properties keep PCRE2's Unicode version. Throws: kUnsupported for syntax that
// the two engines read differently and that is not rewritten.
std::string TranslateOniguruma(std::string_view pattern);

// The class \w of Rust's `regex`, whose members are others than those of Oniguruma.
extern const std::string_view kRustWordClass;

// A compiled pattern. Immutable, thread-safe; copies share the code.
class Regex {
 public:
  // Throws: kUnsupported as TranslateOniguruma does, and for what PCRE2 does not know;
  // kCorruptInput when the pattern is not a regular expression.
  explicit Regex(std::string_view pattern);
  // Matches exactly `text`.
  static Regex Literal(std::string_view text);

  // The leftmost match that starts at `from` or later. REQUIRES: `text` is valid UTF-8 and `from`
  // starts a character of it. Throws: kUnsupported when the match needs more than the permitted
  // backtracking or stack.
  std::optional<TextRange> Find(std::string_view text, int64_t from) const;

 private:
  struct Code;
  Regex(std::string_view original, const std::string& translated);
  std::shared_ptr<const Code> code_;
};

// All matches of a text from left to right, not overlapping; an empty match right behind the
// previous match is skipped. Source: FindMatches of the Rust binding of Oniguruma.
class MatchIterator {
 public:
  // `regex` and `text` must outlive the iterator.
  MatchIterator(const Regex& regex, std::string_view text) : regex_(regex), text_(text) {}
  std::optional<TextRange> Next();

 private:
  const Regex& regex_;
  std::string_view text_;
  int64_t position_ = 0;
  int64_t last_end_ = -1;
};

}  // namespace narrow
