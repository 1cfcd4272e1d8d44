#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "io/json.h"
#include "text/regex.h"

namespace narrow {
namespace {

// What Unicode 16 added to the categories of Unicode 14, which PCRE2 10.42 has.
constexpr std::string_view kNewerLetters =
    R"(\x{1c89}-\x{1c8a}\x{a7cb}-\x{a7cd}\x{a7da}-\x{a7dc}\x{105c0}-\x{105f3})"
    R"(\x{10d4a}-\x{10d65}\x{10d6f}-\x{10d85}\x{10ec2}-\x{10ec4}\x{1123f}-\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138b}\x{1138e}\x{11390}-\x{113b5}\x{113b7}\x{113d1}\x{113d3})"
    R"(\x{11bc0}-\x{11be0}\x{11f02}\x{11f04}-\x{11f10}\x{11f12}-\x{11f33}\x{1342f})"
    R"(\x{13441}-\x{13446}\x{13460}-\x{143fa}\x{16100}-\x{1611d}\x{16d40}-\x{16d6c}\x{18cff})"
    R"(\x{1b132}\x{1b155}\x{1df25}-\x{1df2a}\x{1e030}-\x{1e06d}\x{1e4d0}-\x{1e4eb})"
    R"(\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739}\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})";
constexpr std::string_view kNewerMarks =
    R"(\x{897}\x{cf3}\x{ece}\x{10d69}-\x{10d6d}\x{10efc}-\x{10eff}\x{11241}\x{113b8}-\x{113c0})"
    R"(\x{113c2}\x{113c5}\x{113c7}-\x{113ca}\x{113cc}-\x{113d0}\x{113d2}\x{113e1}-\x{113e2})"
    R"(\x{11f00}-\x{11f01}\x{11f03}\x{11f34}-\x{11f3a}\x{11f3e}-\x{11f42}\x{11f5a}\x{13440})"
    R"(\x{13447}-\x{13455}\x{1611e}-\x{1612f}\x{1e08f}\x{1e4ec}-\x{1e4ef}\x{1e5ee}-\x{1e5ef})";
constexpr std::string_view kNewerNumbers =
    R"(\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59})"
    R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1d2c0}-\x{1d2d3})"
    R"(\x{1e4f0}-\x{1e4f9}\x{1e5f1}-\x{1e5fa})";
constexpr std::string_view kNewerDecimals =
    R"(\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59})"
    R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1e4f0}-\x{1e4f9})"
    R"(\x{1e5f1}-\x{1e5fa})";
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
// Alphabetic characters that are neither letters, marks nor numbers.
constexpr std::string_view kCircledLetters =
    R"(\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

std::string Concatenate(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) text += part;
  return text;
}

// Members of a class, to be put between brackets; empty for a name that needs no rewriting.
std::string PropertyMembers(std::string_view name) {
  if (name == "L") return Concatenate({R"(\p{L})", kNewerLetters});
  if (name == "M") return Concatenate({R"(\p{M})", kNewerMarks});
  if (name == "N") return Concatenate({R"(\p{N})", kNewerNumbers});
  if (name == "Nd") return Concatenate({R"(\p{Nd})", kNewerDecimals});
  return {};
}

std::string ShorthandMembers(char letter) {
  if (letter == 's') return std::string(kSpaces);
  if (letter == 'd') return PropertyMembers("Nd");
  // Superscripts and fractions count below U+0100, where Oniguruma goes by its Latin-1 table.
  return PropertyMembers("L") + PropertyMembers("M") + PropertyMembers("Nd") +
         Concatenate({R"(\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})", kCircledLetters});
}

// One pass over the pattern; position_ is the next byte to read.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string Run() {
    while (position_ < pattern_.size()) {
      const char c = pattern_[position_];
      if (c == '\\') {
        Escape();
      } else if (in_class_) {
        ClassMember(c);
      } else if (c == '[') {
        OpenClass();
      } else if (c == '(') {
        Group();
      } else if (c == '{') {
        Interval();
      } else {
        Copy(1);
      }
    }
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
  void Copy(std::size_t count) {
    output_ += pattern_.substr(position_, count);
    position_ += count;
  }

  // Puts the members (or, negated, everything else) in place of `consumed` bytes of the pattern.
  void Members(const std::string& members, bool negated, std::size_t consumed) {
    if (in_class_ && negated) Refuse("a negated class inside brackets");
    if (in_class_) {
      output_ += members;
    } else {
      output_ += (negated ? "[^" : "[") + members + "]";
    }
    position_ += consumed;
  }

  void Escape() {
    const char c = At(1);
    if (c == 'p' || c == 'P') return Property();
    if (c == 'S' && in_class_) {
      output_ += kNotSpaces;
      position_ += 2;
      return;
    }
    if (c != '\0' && std::string_view("sdwSDW").find(c) != std::string_view::npos) {
      const bool negated = std::isupper(static_cast<unsigned char>(c)) != 0;
      return Members(ShorthandMembers(static_cast<char>(std::tolower(c))), negated, 2);
    }
    if (c == 'u') return FourDigits();
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) == 0;
    const bool hexadecimal = c == 'x' && At(2) == '{';
    const bool same = c != '\0' && std::string_view("trnfae").find(c) != std::string_view::npos;
    const bool anchor =
        !in_class_ && c != '\0' && std::string_view("AzZG").find(c) != std::string_view::npos;
    if (!plain && !hexadecimal && !same && !anchor) Refuse(fmt::format("escape \\{}", c));
    Copy(2);
  }

  // \uHHHH
  void FourDigits() {
    for (std::size_t i = 2; i < 6; ++i) {
      if (std::isxdigit(static_cast<unsigned char>(At(i))) == 0) Refuse("escape \\u");
    }
    output_ += Concatenate({"\\x{", pattern_.substr(position_ + 2, 4), "}"});
    position_ += 6;
  }

  // \p{Name}, \P{Name}, \p{^Name}
  void Property() {
    const std::size_t close = pattern_.find('}', position_);
    if (At(2) != '{' || close == std::string_view::npos) Refuse("a property without braces");
    std::string_view name = pattern_.substr(position_ + 3, close - position_ - 3);
    bool negated = At(1) == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::string members = PropertyMembers(name);
    if (members.empty()) return Copy(close + 1 - position_);
    Members(members, negated, close + 1 - position_);
  }

  void OpenClass() {
    in_class_ = true;
    Copy(1);
    if (At(0) == '^') Copy(1);
    if (At(0) == ']') Copy(1);
  }

  void ClassMember(char c) {
    if (c == '[') Refuse("a class inside brackets");
    if (c == '&' && At(1) == '&') Refuse("an intersection of classes");
    if (c == ']') in_class_ = false;
    Copy(1);
  }

  void Group() {
    if (At(1) == '*') Refuse("a verb");
    if (At(1) != '?') return Copy(1);
    if (std::string_view(":=!>").find(At(2)) != std::string_view::npos && At(2) != '\0') {
      return Copy(3);
    }
    if (At(2) == '<' && (At(3) == '=' || At(3) == '!')) return Copy(4);
    // (?i: and the like. The other letters, and (?i) in the middle, mean other things in Oniguruma.
    std::size_t length = 2;
    while (At(length) == 'i' || At(length) == '-') ++length;
    const bool whole = At(length) == ')' && position_ == 0;
    if (length == 2 || (At(length) != ':' && !whole)) Refuse("this kind of group");
    Copy(length + 1);
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
  bool in_class_ = false;
  std::string output_;
};

}  // namespace

std::string TranslateOniguruma(std::string_view pattern) { return Translator(pattern).Run(); }

}  // namespace narrow
