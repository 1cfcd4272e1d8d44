#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "base/error.h"
#include "io/json.h"
#include "text/regex.h"
#include "text/regex_properties.h"

namespace narrow {
namespace {

constexpr std::string_view kAnyCharacter = R"([\x{0}-\x{10ffff}])";
constexpr int kMaxClassDepth = 16;

bool IsOneOf(char c, std::string_view characters) {
  return c != '\0' && characters.find(c) != std::string_view::npos;
}

// Part of a class: what stands between brackets, and patterns of one character that cannot.
struct ClassPart {
  std::string members;
  std::vector<std::string> others;

  void Add(const std::string& added, bool negated) {
    if (negated) {
      others.push_back(fmt::format("[^{}]", added));
    } else {
      members += added;
    }
  }

  // A pattern that matches one character of the part.
  std::string Pattern() const {
    if (others.empty()) return fmt::format("[{}]", members);
    const std::string first = members.empty() ? "" : fmt::format("[{}]|", members);
    return fmt::format("(?:{}{})", first, fmt::join(others, "|"));
  }
};

// One pass over the pattern; position_ is the next byte to read.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string Run() {
    while (position_ < pattern_.size()) {
      const char c = At(0);
      if (c == '\\') {
        Escape();
      } else if (c == '[') {
        output_ += Class(0);
      } else if (c == '(') {
        Group();
      } else if (c == ')') {
        CloseGroup();
      } else if (c == '{') {
        Interval();
      } else {
        Copy(1);
      }
    }
    output_.append(open_options_.back(), ')');
    return std::move(output_);
  }

 private:
  [[noreturn]] void Refuse(std::string_view what) const {
    Fail(ErrorCode::kUnsupported, "regular expression {}: {} at byte {} is not supported",
         Quoted(pattern_), what, position_);
  }
  char At(std::size_t offset) const {
    return position_ + offset < pattern_.size() ? pattern_[position_ + offset] : '\0';
  }
  std::string_view Take(std::size_t count) {
    const std::string_view taken = pattern_.substr(position_, count);
    position_ += taken.size();
    return taken;
  }
  void Copy(std::size_t count) { output_ += Take(count); }

  bool AtClassEscape() const { return At(0) == '\\' && IsOneOf(At(1), "pPsdwhSDWH"); }

  // \p{Name}, \P{Name}, \p{^Name}, \s, \d, \w, \h and their opposites. Between brackets \w is
  // [:word:], which leaves out superscripts.
  void ClassEscape(ClassPart& part, bool in_brackets) {
    const char c = At(1);
    bool negated = std::isupper(static_cast<unsigned char>(c)) != 0;
    if (c != 'p' && c != 'P') {
      Take(2);
      const char letter = static_cast<char>(std::tolower(c));
      return part.Add(
          in_brackets && letter == 'w' ? BracketMembers("word") : ShorthandMembers(letter),
          negated);
    }
    const std::size_t close = pattern_.find('}', position_);
    if (At(2) != '{' || close == std::string_view::npos) Refuse("a property without braces");
    std::string_view name = pattern_.substr(position_ + 3, close - position_ - 3);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char n) {
      return n == '_' || std::isalnum(static_cast<unsigned char>(n)) != 0;
    });
    if (!plain) Refuse("this property");
    if (name == "C" || name == "Other") {  // what Unicode 14 did not assign is no guide
      std::string assigned;
      for (const char* category : {"L", "M", "N", "P", "S", "Z"}) {
        assigned += PropertyMembers(category);
      }
      part.Add(assigned, !negated);
    } else {
      part.Add(PropertyMembers(name), negated);
    }
    position_ = close + 1;
  }

  // Any other escape, which means one character, or nothing (an anchor).
  std::string CharacterEscape() {
    const char c = At(1);
    if (c == 'u') {
      for (std::size_t i = 2; i < 6; ++i) {
        if (std::isxdigit(static_cast<unsigned char>(At(i))) == 0) Refuse("escape \\u");
      }
      Take(2);
      return fmt::format("\\x{{{}}}", Take(4));
    }
    const bool plain = c != '\0' && std::isalnum(static_cast<unsigned char>(c)) == 0;
    const bool hexadecimal = c == 'x' && At(2) == '{';
    if (!plain && !hexadecimal && !IsOneOf(c, "trnfae")) Refuse(fmt::format("escape \\{}", c));
    return std::string(Take(2));
  }

  void Escape() {
    const char c = At(1);
    if (AtClassEscape()) {
      ClassPart part;
      ClassEscape(part, false);
      output_ += part.others.empty() ? part.Pattern() : part.others.front();
    } else if (c == 'b' || c == 'B') {
      WordBoundary(c == 'B');
    } else if (IsOneOf(c, "AzZG")) {
      Copy(2);
    } else {
      output_ += CharacterEscape();
    }
  }

  void WordBoundary(bool negated) {
    const std::string word = fmt::format("[{}]", ShorthandMembers('w'));
    output_ += fmt::format("(?:(?<={0})(?{1}{0})|(?<!{0})(?{2}{0}))", word, negated ? "=" : "!",
                           negated ? "!" : "=");
    Take(2);
  }

  // [...] with classes inside, && between parts, [:name:] and every escape.
  std::string Class(int depth) {
    if (depth > kMaxClassDepth) Refuse("a class that is nested this deep");
    Take(1);
    const bool negated = At(0) == '^';
    if (negated) Take(1);
    std::string before;  // the parts that a character must be in, too
    ClassPart part;
    if (At(0) == ']') part.members += fmt::format("\\{}", Take(1));
    while (At(0) != ']') {
      if (position_ >= pattern_.size()) {
        Fail(ErrorCode::kCorruptInput, "regular expression {} does not compile: a class has no end",
             Quoted(pattern_));
      }
      if (At(0) == '&' && At(1) == '&') {
        if (part.members.empty() && part.others.empty()) Refuse("an intersection with nothing");
        before += fmt::format("(?={})", part.Pattern());
        part = ClassPart();
        Take(2);
        if (At(0) == ']') Refuse("an intersection with nothing");
      } else {
        ClassMember(part, depth);
      }
    }
    Take(1);
    if (before.empty() && part.others.empty()) {
      return fmt::format("[{}{}]", negated ? "^" : "", part.members);
    }
    const std::string pattern = fmt::format("(?:{}{})", before, part.Pattern());
    return negated ? fmt::format("(?:(?!{}){})", pattern, kAnyCharacter) : pattern;
  }

  void ClassMember(ClassPart& part, int depth) {
    bool is_class = true;
    if (At(0) == '[' && At(1) == ':') {
      NamedMember(part);
    } else if (At(0) == '[') {
      part.others.push_back(Class(depth + 1));
    } else if (AtClassEscape()) {
      ClassEscape(part, true);
    } else {
      is_class = false;
      part.members += At(0) == '\\' ? CharacterEscape() : std::string(Take(1));
    }
    // A hyphen beside a class is no range.
    if (At(0) != '-') return;
    const bool class_follows = At(1) == '\\' && IsOneOf(At(2), "pPsdwhSDWH");
    if ((is_class || class_follows || At(1) == '[') && At(1) != ']') {
      part.members += fmt::format("\\{}", Take(1));
    }
  }

  // [:name:] or [:^name:]
  void NamedMember(ClassPart& part) {
    const std::size_t close = pattern_.find(":]", position_);
    const bool negated = At(2) == '^';
    const std::size_t start = position_ + (negated ? 3 : 2);
    const std::string members = close == std::string_view::npos || close < start
                                    ? ""
                                    : BracketMembers(pattern_.substr(start, close - start));
    if (members.empty()) Refuse("this class inside brackets");
    part.Add(members, negated);
    position_ = close + 2;
  }

  void Group() {
    if (At(1) == '*') Refuse("a verb");
    open_options_.push_back(0);
    if (At(1) != '?') return Copy(1);
    if (IsOneOf(At(2), ":=!>")) return Copy(3);
    if (At(2) == '<' && (At(3) == '=' || At(3) == '!')) return Copy(4);
    // Options: i, and m, which is PCRE2's s. Oniguruma lets (?i) reach over every alternative up to
    // the end of the group around it.
    std::size_t length = 2;
    while (IsOneOf(At(length), "im-")) ++length;
    if (length == 2 || (At(length) != ':' && At(length) != ')')) Refuse("this kind of group");
    std::string options(Take(length));
    std::replace(options.begin(), options.end(), 'm', 's');
    output_ += options + ":";
    if (Take(1) == ")") {
      open_options_.pop_back();
      ++open_options_.back();
    }
  }

  void CloseGroup() {
    if (open_options_.size() > 1) {
      output_.append(open_options_.back(), ')');
      open_options_.pop_back();
    }
    Copy(1);
  }

  // {n,m}: an added '+' or '?' and a missing lower bound are read differently by the two engines.
  void Interval() {
    const std::size_t close = pattern_.find('}', position_);
    if (close == std::string_view::npos) return Copy(1);
    const std::string_view bounds = pattern_.substr(position_ + 1, close - position_ - 1);
    const bool interval = std::all_of(bounds.begin(), bounds.end(), [](char c) {
      return std::isdigit(static_cast<unsigned char>(c)) != 0 || c == ',';
    });
    if (!interval) return Copy(1);
    const char next = close + 1 < pattern_.size() ? pattern_[close + 1] : '\0';
    const bool fixed = bounds.find(',') == std::string_view::npos;
    if (bounds.starts_with(',') || next == '+' || (next == '?' && fixed)) Refuse("this interval");
    Copy(close + 1 - position_);
  }

  std::string_view pattern_;
  std::size_t position_ = 0;
  std::vector<std::size_t> open_options_ = {0};  // (?i) without an end, in each open group
  std::string output_;
};

}  // namespace

const std::string_view kRustWordClass =
    R"([\p{L}\p{Nl}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d})"
    R"(\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}])";

std::string TranslateOniguruma(std::string_view pattern) { return Translator(pattern).Run(); }

}  // namespace narrow
