// Properties of the parts the tokenizer is built from, checked against plain definitions.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "text/bpe_merges.h"
#include "text/byte_level.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace narrow {
namespace {

TEST(Utf8, RoundTripsEveryScalarValue) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text = "x";
    AppendUtf8(c, text);
    ASSERT_EQ(FindInvalidUtf8(text), -1) << static_cast<uint32_t>(c);
    ASSERT_EQ(DecodeUtf8(text, 1), c);
    ASSERT_EQ(1 + Utf8Length(text[1]), static_cast<int64_t>(text.size()));
    ASSERT_EQ(PreviousUtf8(text, static_cast<int64_t>(text.size())), 1);
  }
}

// There are 1,112,064 scalar values, and as many well-formed sequences.
TEST(Utf8, AcceptsNoOtherSequences) {
  int64_t valid[5] = {};
  for (uint32_t lead = 0; lead < 256; ++lead) {
    valid[1] += FindInvalidUtf8(std::string(1, static_cast<char>(lead))) < 0;
    if (lead < 0x80) continue;
    // Continuation bytes of interest; the skipped ones behave as their neighbours.
    for (uint32_t second = 0; second < 256; ++second) {
      std::string text{static_cast<char>(lead), static_cast<char>(second)};
      valid[2] += FindInvalidUtf8(text) < 0;
      text += '\x80';
      valid[3] += FindInvalidUtf8(text) < 0;
      text += '\xBF';
      valid[4] += FindInvalidUtf8(text) < 0;
    }
  }
  EXPECT_EQ(valid[1], 128);
  EXPECT_EQ(valid[2], 0x800 - 0x80);
  EXPECT_EQ(valid[3] * 64, 0x10000 - 0x800 - 0x800);
  EXPECT_EQ(valid[4] * 64 * 64, 0x110000 - 0x10000);
}

TEST(ByteLevel, IsOneToOne) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<uint8_t>(byte);
    EXPECT_EQ(DecodeByteLevel(ByteLevelCharacter(value)), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(ByteLevelCharacter(' '), "Ġ");
  EXPECT_EQ(ByteLevelCharacter('\n'), "Ċ");
  EXPECT_EQ(DecodeByteLevel("a b"), std::nullopt);
}

int64_t CountMatches(const char* pattern) {
  const Regex regex(pattern);
  int64_t count = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, text);
    count += regex.Find(text, 0).has_value();
  }
  return count;
}

// The numbers of characters that Oniguruma 6.9.10 has in these classes, counted with `tokenizers`.
TEST(Regex, ClassesHaveOnigurumasMembers) {
  EXPECT_EQ(CountMatches(R"(\s)"), 25);
  EXPECT_EQ(CountMatches(R"([^\S])"), 25);
  EXPECT_EQ(CountMatches(R"(\S)"), 1112064 - 25);
  EXPECT_EQ(CountMatches(R"(\p{L})"), 141028);
  EXPECT_EQ(CountMatches(R"(\P{L})"), 1112064 - 141028);
  EXPECT_EQ(CountMatches(R"([^\s\p{L}\p{N}])"), 1112064 - 25 - 141028 - 1911);
  EXPECT_EQ(CountMatches(R"(\p{N})"), 1911);
  EXPECT_EQ(CountMatches(R"(\d)"), 760);
  EXPECT_EQ(CountMatches(R"(\p{M})"), 2501);
  EXPECT_EQ(CountMatches(R"(\w)"), 144671);
  EXPECT_EQ(CountMatches(R"((?i:s))"), 3);
  EXPECT_EQ(CountMatches(R"([\w])"), 144665);  // without six superscripts and fractions
  EXPECT_EQ(CountMatches(R"([\W])"), 1112064 - 144665);
  EXPECT_EQ(CountMatches(R"([\W\d])"), 1112064 - 144665 + 760);
  EXPECT_EQ(CountMatches(R"(\h)"), 22);
  EXPECT_EQ(CountMatches(R"([[:punct:]])"), 9369);
}

// The same for properties whose members PCRE2 knows by an older version of Unicode.
TEST(Regex, PropertiesHaveOnigurumasMembers) {
  const std::pair<const char*, int64_t> properties[] = {
      {"Lu", 1858},    {"Ll", 2258},      {"Lt", 31},    {"Lm", 404},       {"Lo", 136477},
      {"Mc", 468},     {"No", 915},       {"P", 855},    {"Pd", 27},        {"Po", 640},
      {"S", 8514},     {"Sm", 950},       {"Sc", 63},    {"So", 7376},      {"Z", 19},
      {"Cc", 65},      {"Cf", 170},       {"C", 957236}, {"Han", 99030},    {"Hiragana", 381},
      {"Latin", 1487}, {"Katakana", 321}, {"Thai", 86},  {"Cyrillic", 508}, {"Devanagari", 164}};
  for (const auto& [name, count] : properties) {
    const std::string text(name);
    EXPECT_EQ(CountMatches(("\\p{" + text + "}").c_str()), count) << name;
    EXPECT_EQ(CountMatches(("[^\\p{" + text + "}]").c_str()), 1112064 - count) << name;
    EXPECT_EQ(CountMatches(("[\\P{" + text + "}]").c_str()), 1112064 - count) << name;
  }
}

TEST(Regex, CombinesClasses) {
  EXPECT_EQ(CountMatches(R"([a-z&&[^aeiou]])"), 21);
  EXPECT_EQ(CountMatches(R"([^a-z&&[^aeiou]])"), 1112064 - 21);
  EXPECT_EQ(CountMatches(R"([a-c[x-z]\d-])"), 760 + 7);
  EXPECT_EQ(CountMatches(R"([\p{L}&&[^\p{Han}]])"), 42343);
}

// The definition: merge the leftmost pair of lowest rank until there is none.
std::vector<int32_t> MergePlainly(
    const std::map<std::pair<int32_t, int32_t>, std::pair<uint32_t, int32_t>>& rules,
    std::vector<int32_t> symbols) {
  while (true) {
    std::size_t best = symbols.size();
    uint32_t best_rank = ~0u;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto rule = rules.find({symbols[i], symbols[i + 1]});
      if (rule == rules.end() || rule->second.first >= best_rank) continue;
      best = i;
      best_rank = rule->second.first;
    }
    if (best == symbols.size()) return symbols;
    symbols[best] = rules.at({symbols[best], symbols[best + 1]}).second;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(MergeRules, FollowTheDefinitionForShortAndLongWords) {
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    // Tokens are strings over {0, 1, 2}; a rule joins two of them, as training would.
    std::map<std::string, int32_t> tokens = {{"0", 0}, {"1", 1}, {"2", 2}};
    std::vector<std::string> names = {"0", "1", "2"};
    std::map<std::pair<int32_t, int32_t>, std::pair<uint32_t, int32_t>> rules;
    MergeRules merges(60);
    for (uint32_t rank = 0; rank < 60; ++rank) {
      const auto left = static_cast<int32_t>(random() % names.size());
      const auto right = static_cast<int32_t>(random() % names.size());
      const std::string name =
          names[static_cast<std::size_t>(left)] + names[static_cast<std::size_t>(right)];
      if (name.size() > 8 || rules.contains({left, right})) continue;
      const auto [token, added] = tokens.emplace(name, static_cast<int32_t>(names.size()));
      if (added) names.push_back(name);
      rules[{left, right}] = {rank, token->second};
      merges.Add(left, right, rank, token->second);
    }
    for (const std::size_t length : {1u, 2u, 7u, 48u, 49u, 300u}) {
      MergeScratch scratch;
      for (std::size_t i = 0; i < length; ++i) {
        scratch.symbols.push_back(static_cast<int32_t>(random() % 3));
      }
      const std::vector<int32_t> expected = MergePlainly(rules, scratch.symbols);
      merges.Apply(scratch);
      ASSERT_EQ(scratch.symbols, expected) << "round " << round << ", length " << length;
    }
  }
}

}  // namespace
}  // namespace narrow
