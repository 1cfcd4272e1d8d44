#include "text/regex_properties.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "base/error.h"

namespace narrow {
namespace {

struct NewerMembers {
  std::string_view name;
  std::string_view members;
};

// What Unicode 16 added to the categories of Unicode 14, which PCRE2 10.42 has.
constexpr NewerMembers kNewerInCategories[] = {
    {"Lu", R"(\x{1c89}\x{a7cb}-\x{a7cc}\x{a7da}\x{a7dc}\x{10d50}-\x{10d65})"},
    {"Ll", R"(\x{1c8a}\x{a7cd}\x{a7db}\x{10d70}-\x{10d85}\x{1df25}-\x{1df2a})"},
    {"Lm", R"(\x{10d4e}\x{10d6f}\x{16d40}-\x{16d42}\x{16d6b}-\x{16d6c}\x{1e030}-\x{1e06d})"
           R"(\x{1e4eb})"},
    {"Lo", R"(\x{105c0}-\x{105f3}\x{10d4a}-\x{10d4d}\x{10d4f}\x{10ec2}-\x{10ec4})"
           R"(\x{1123f}-\x{11240}\x{11380}-\x{11389}\x{1138b}\x{1138e}\x{11390}-\x{113b5})"
           R"(\x{113b7}\x{113d1}\x{113d3}\x{11bc0}-\x{11be0}\x{11f02}\x{11f04}-\x{11f10})"
           R"(\x{11f12}-\x{11f33}\x{1342f}\x{13441}-\x{13446}\x{13460}-\x{143fa})"
           R"(\x{16100}-\x{1611d}\x{16d43}-\x{16d6a}\x{18cff}\x{1b132}\x{1b155})"
           R"(\x{1e4d0}-\x{1e4ea}\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739}\x{2ebf0}-\x{2ee5d})"
           R"(\x{31350}-\x{323af})"},
    {"Mn", R"(\x{897}\x{ece}\x{10d69}-\x{10d6d}\x{10efc}-\x{10eff}\x{11241}\x{113bb}-\x{113c0})"
           R"(\x{113ce}\x{113d0}\x{113d2}\x{113e1}-\x{113e2}\x{11f00}-\x{11f01})"
           R"(\x{11f36}-\x{11f3a}\x{11f40}\x{11f42}\x{11f5a}\x{13440}\x{13447}-\x{13455})"
           R"(\x{1611e}-\x{16129}\x{1612d}-\x{1612f}\x{1e08f}\x{1e4ec}-\x{1e4ef})"
           R"(\x{1e5ee}-\x{1e5ef})"},
    {"Mc", R"(\x{cf3}\x{113b8}-\x{113ba}\x{113c2}\x{113c5}\x{113c7}-\x{113ca})"
           R"(\x{113cc}-\x{113cd}\x{113cf}\x{1171e}\x{11f03}\x{11f34}-\x{11f35})"
           R"(\x{11f3e}-\x{11f3f}\x{11f41}\x{1612a}-\x{1612c})"},
    {"Nd", R"(\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59})"
           R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1e4f0}-\x{1e4f9})"
           R"(\x{1e5f1}-\x{1e5fa})"},
    {"No", R"(\x{1d2c0}-\x{1d2d3})"},
    {"Pd", R"(\x{10d6e})"},
    {"Po", R"(\x{1b4e}-\x{1b4f}\x{1b7f}\x{113d4}-\x{113d5}\x{113d7}-\x{113d8})"
           R"(\x{11b00}-\x{11b09}\x{11be1}\x{11f43}-\x{11f4f}\x{16d6d}-\x{16d6f}\x{1e5ff})"},
    {"Sm", R"(\x{10d8e}-\x{10d8f})"},
    {"So", R"(\x{2427}-\x{2429}\x{2ffc}-\x{2fff}\x{31e4}-\x{31e5}\x{31ef}\x{1cc00}-\x{1ccef})"
           R"(\x{1cd00}-\x{1ceb3}\x{1f6dc}\x{1f774}-\x{1f776}\x{1f77b}-\x{1f77f}\x{1f7d9})"
           R"(\x{1f8b2}-\x{1f8bb}\x{1f8c0}-\x{1f8c1}\x{1fa75}-\x{1fa77}\x{1fa87}-\x{1fa89})"
           R"(\x{1fa8f}\x{1faad}-\x{1faaf}\x{1fabb}-\x{1fabf}\x{1fac6}\x{1face}-\x{1facf})"
           R"(\x{1fada}-\x{1fadc}\x{1fadf}\x{1fae8}-\x{1fae9}\x{1faf7}-\x{1faf8})"
           R"(\x{1fbcb}-\x{1fbef})"},
    {"Cf", R"(\x{13439}-\x{1343f})"},
};

// The same for scripts.
constexpr NewerMembers kNewerInScripts[] = {
    {"Han", R"(\x{2b739}\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})"},
    {"Hiragana", R"(\x{1b132})"},
    {"Katakana", R"(\x{1b155})"},
    {"Latin", R"(\x{a7cb}-\x{a7cd}\x{a7da}-\x{a7dc}\x{1df25}-\x{1df2a})"},
    {"Cyrillic", R"(\x{1c89}-\x{1c8a}\x{1e030}-\x{1e06d}\x{1e08f})"},
    {"Arabic", R"(\x{897}\x{10ec2}-\x{10ec4}\x{10efc}-\x{10eff})"},
    {"Lao", R"(\x{ece})"},
    {"Myanmar", R"(\x{116d0}-\x{116e3})"},
    {"Devanagari", R"(\x{11b00}-\x{11b09})"},
};

// General categories and binary properties; every other name is one of a script.
constexpr std::string_view kKnownProperties[] = {"L",
                                                 "Lu",
                                                 "Ll",
                                                 "Lt",
                                                 "Lm",
                                                 "Lo",
                                                 "M",
                                                 "Mn",
                                                 "Mc",
                                                 "Me",
                                                 "N",
                                                 "Nd",
                                                 "Nl",
                                                 "No",
                                                 "P",
                                                 "Pc",
                                                 "Pd",
                                                 "Ps",
                                                 "Pe",
                                                 "Pi",
                                                 "Pf",
                                                 "Po",
                                                 "S",
                                                 "Sm",
                                                 "Sc",
                                                 "Sk",
                                                 "So",
                                                 "Z",
                                                 "Zs",
                                                 "Zl",
                                                 "Zp",
                                                 "Cc",
                                                 "Cf",
                                                 "Co",
                                                 "Cs",
                                                 "Any",
                                                 "ASCII",
                                                 "Alphabetic",
                                                 "Alpha",
                                                 "Uppercase",
                                                 "Upper",
                                                 "Lowercase",
                                                 "Lower",
                                                 "Emoji",
                                                 "Extended_Pictographic",
                                                 "Emoji_Presentation",
                                                 "Emoji_Modifier",
                                                 "Emoji_Component",
                                                 "Emoji_Modifier_Base"};

constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
// Alphabetic characters that are neither letters, marks nor numbers.
constexpr std::string_view kCircledLetters =
    R"(\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

// Ranges in order, neighbours as one: the fewer there are, the faster a class is matched.
std::string Joined(std::string_view members) {
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  for (std::size_t at = members.find('{'); at != std::string_view::npos;
       at = members.find('{', at + 1)) {
    uint32_t value = 0;
    std::from_chars(members.data() + at + 1, members.data() + members.find('}', at), value, 16);
    const bool last = at >= 3 && members[at - 3] == '-';  // of "\x{..}-\x{..}"
    if (last) {
      ranges.back().second = value;
    } else {
      ranges.emplace_back(value, value);
    }
  }
  std::sort(ranges.begin(), ranges.end());
  std::string joined;
  for (std::size_t i = 0; i < ranges.size();) {
    const uint32_t first = ranges[i].first;
    uint32_t last = ranges[i].second;
    for (++i; i < ranges.size() && ranges[i].first == last + 1; ++i) last = ranges[i].second;
    joined += fmt::format("\\x{{{:x}}}", first);
    if (last > first) joined += fmt::format("-\\x{{{:x}}}", last);
  }
  return joined;
}

std::string WordMembers() {
  return PropertyMembers("L") + PropertyMembers("M") + PropertyMembers("Nd") + R"(\p{Nl}\p{Pc})" +
         std::string(kCircledLetters);
}

}  // namespace

std::string PropertyMembers(std::string_view name) {
  if (name == "White_Space" || name == "Space") return std::string(kSpaces);
  if (name == "Punct") return PropertyMembers("P");
  if (name == "Digit") return PropertyMembers("Nd");
  const bool known = std::find(std::begin(kKnownProperties), std::end(kKnownProperties), name) !=
                     std::end(kKnownProperties);
  std::string newer;
  if (known) {
    for (const NewerMembers& row : kNewerInCategories) {
      if (row.name.starts_with(name)) newer += row.members;  // "L" has those of "Lu", ...
    }
  } else {
    for (const NewerMembers& row : kNewerInScripts) {
      if (row.name == name) newer += row.members;
    }
  }
  return fmt::format("\\p{{{}{}}}{}", known ? "" : "sc:", name, Joined(newer));
}

std::string ShorthandMembers(char letter) {
  if (letter == 's') return std::string(kSpaces);
  if (letter == 'd') return PropertyMembers("Nd");
  if (letter == 'h') return "0-9A-Fa-f";
  // Superscripts and fractions count below U+0100, where Oniguruma goes by its Latin-1 table.
  return WordMembers() + R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
}

std::string BracketMembers(std::string_view name) {
  if (name == "space") return std::string(kSpaces);
  if (name == "digit") return PropertyMembers("Nd");
  if (name == "word") return WordMembers();
  if (name == "punct") return PropertyMembers("P") + PropertyMembers("S");
  if (name == "xdigit") return ShorthandMembers('h');
  if (name == "blank") return R"(\t\p{Zs})";
  if (name == "cntrl") return R"(\p{Cc})";
  return {};
}

}  // namespace narrow
