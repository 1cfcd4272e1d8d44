#include "text/json_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "io/scratch_directory.h"

namespace narrow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(JsonLines, TakesTheFieldTextInOrderAndSkipsBlankLines) {
  EXPECT_THAT(ParseJsonLines("{\"text\": \"one\"}\n\n \t\r\n"
                             "{\"meta\": [1, {}], \"text\": \"tw\\u00f6\\n\"}\r\n"
                             "{\"text\": \"\"}",
                             "x")
                  .texts,
              ElementsAre("one", "tw\xC3\xB6\n", ""));
  EXPECT_THAT(ParseJsonLines("", "x").texts, IsEmpty());
  EXPECT_THAT(ParseJsonLines("\n\n", "x").texts, IsEmpty());
}

TEST(JsonLines, TheCutsBetweenPiecesDoNotMatter) {
  const std::string_view bytes =
      "{\"text\": \"a\"}\n\n{\"text\": \"\xE2\x82\xAC\"}\r\n{\"text\": \"c\"}";
  const auto expected = ParseJsonLines(bytes, "x").texts;
  ASSERT_EQ(expected.size(), 3u);
  for (std::size_t first = 0; first <= bytes.size(); ++first) {
    for (std::size_t second = first; second <= bytes.size(); ++second) {
      JsonLinesParser parser("x");
      parser.Add(bytes.substr(0, first));
      parser.Add(bytes.substr(first, second - first));
      parser.Add(bytes.substr(second));
      ASSERT_EQ(parser.Finish().texts, expected) << first << " " << second;
    }
  }
}

TEST(JsonLines, StopsAtTheLastDocumentWantedAndLooksNoFurther) {
  JsonLinesParser parser("x", {.max_documents = 2});
  EXPECT_TRUE(parser.Add("{\"text\": \"one\"}\n{\"text\": "));
  EXPECT_FALSE(parser.Add("\"two\"}\nnot JSON at all\n"));
  EXPECT_FALSE(parser.Add("\xFF\n"));
  EXPECT_THAT(parser.Finish().texts, ElementsAre("one", "two"));
}

TEST(JsonLines, RefusalsNameTheLine) {
  struct Case {
    std::string_view line;
    std::string_view message;
  };
  const Case cases[] = {
      {"{\"text\": 3}", "f.jsonl, line 3: \"text\" should be a string, found an integer"},
      {"{\"content\": \"a\"}", "f.jsonl, line 3: \"text\" is missing, and so is"},
      {"{\"text\": null}", "f.jsonl, line 3: \"text\" is null"},
      {"{\"tokens\": null}", "f.jsonl, line 3: \"tokens\" is null, and there is no \"text\""},
      {"{\"tokens\": 3}", "f.jsonl, line 3: \"tokens\" should be an array, found an integer"},
      {"{\"tokens\": [1]}", "f.jsonl, line 3: is token ids, but line 1 is text"},
      {"{\"text\": \"a\", \"tokens\": [1]}", "f.jsonl, line 3: has \"text\" and \"tokens\""},
      {"[1, 2]", "f.jsonl, line 3: is token ids, but line 1 is text"},
      {"\"text\"", "f.jsonl, line 3: expected a JSON object with \"text\" or \"tokens\""},
      {"{\"text\": \"a\"", "f.jsonl, line 3: not valid JSON"},
      {"{\"text\": \"a\"} {\"text\": \"b\"}", "f.jsonl, line 3: not valid JSON"},
      {"{\"text\": \"a\", \"text\": \"b\"}", "f.jsonl, line 3: JSON object has the key"},
      {"{\"text\": \"caf\xE9\"}", "f.jsonl, line 3: not valid UTF-8 at byte 14 of the line"},
      {"{\"text\": \"\\ud800\"}", "f.jsonl, line 3: not valid JSON"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.line));
    const std::string bytes = "{\"text\": \"fine\"}\n\n" + std::string(c.line) + "\n";
    ExpectError(ErrorCode::kCorruptInput, c.message, [&] { ParseJsonLines(bytes, "f.jsonl"); });
  }
  const std::string deep =
      "{\"text\": \"a\", \"b\": " + std::string(100, '[') + std::string(100, ']') + "}";
  ExpectError(ErrorCode::kCorruptInput, "f.jsonl, line 1: JSON nested deeper than 64",
              [&] { ParseJsonLines(deep, "f.jsonl"); });
}

TEST(JsonLines, NanAsPythonWritesItIsPassedOverInOtherMembers) {
  const std::string_view bytes =
      "{\"score\": NaN, \"text\": \"a NaN\", \"meta\": {\"low\": [-Infinity, Infinity]}}\n";
  EXPECT_THAT(ParseJsonLines(bytes, "f").texts, ElementsAre("a NaN"));
  ExpectError(ErrorCode::kCorruptInput, "f, line 1: \"text\" should be a string, found NaN",
              [] { ParseJsonLines("{\"text\": NaN}", "f"); });
}

TEST(JsonLines, DocumentsMayBeTokenIds) {
  const JsonLines lines = ParseJsonLines(
      "{\"tokens\": [0, 2147483647]}\n\n[5]\n{\"text\": null, \"tokens\": [7, 8]}\n[]\n", "x");
  EXPECT_THAT(lines.texts, IsEmpty());
  ASSERT_EQ(lines.tokens.size(), 4u);
  EXPECT_THAT(lines.tokens[0].ids, ElementsAre(0, 2147483647));
  EXPECT_THAT(lines.tokens[1].ids, ElementsAre(5));
  EXPECT_EQ(lines.tokens[1].line, 3);
  EXPECT_THAT(lines.tokens[2].ids, ElementsAre(7, 8));
  EXPECT_THAT(lines.tokens[3].ids, IsEmpty());
  EXPECT_EQ(ParseJsonLines("[1]\n[2]\nnonsense", "x", {.max_documents = 2}).tokens.size(), 2u);
}

// Members of that name that are something else beside a text: a count, words, nothing.
TEST(JsonLines, TokensThatAreNoIdsDoNotMatterBesideAText) {
  for (const char* tokens : {"17", "[\"a\", \"b\"]", "null", "[]", "{}"}) {
    const std::string line = fmt::format("{{\"text\": \"a\", \"tokens\": {}}}", tokens);
    EXPECT_THAT(ParseJsonLines(line, "x").texts, ElementsAre("a")) << tokens;
  }
}

TEST(JsonLines, IdsAreWholeNumbersFromZero) {
  const std::pair<const char*, const char*> cases[] = {
      {"-1", "-1"},
      {"2147483648", "2147483648"},
      {"18446744073709551615", "18446744073709551615"},
      {"1e3", "1000.0"},
      {"2.5", "2.5"},
      {"99999999999999999999999", "9.99"},
      {"\"7\"", "string"},
      {"true", "boolean"},
      {"null", "null"},
      {"[3]", "array"}};
  for (const auto& [id, found] : cases) {
    ExpectError(ErrorCode::kCorruptInput,
                fmt::format("f, line 2: token 3 should be a whole number from 0 to 2147483647, "
                            "found {}",
                            found),
                [&] { ParseJsonLines(fmt::format("[0]\n[1, 2, {}]", id), "f"); });
  }
  ExpectError(ErrorCode::kCorruptInput, "f, line 2: is text, but line 1 is token ids",
              [] { ParseJsonLines("[1]\n{\"text\": \"\"}", "f"); });
}

TEST(JsonLines, EmptyDocumentsArePassedOverAndCountedWhereAsked) {
  const std::string texts =
      "{\"text\": \"\"}\n{\"text\": \" \\n\\t\"}\n{\"text\": \"a\"}\n{\"text\": \"\"}\n"
      "{\"text\": \" b\"}\n{\"text\": \"\"}\nnonsense";
  const JsonLines lines = ParseJsonLines(texts, "x", {.max_documents = 2, .skip_empty = true});
  EXPECT_THAT(lines.texts, ElementsAre("a", " b"));
  EXPECT_EQ(lines.empty, 3);
  const JsonLines ids = ParseJsonLines("[]\n{\"tokens\": []}\n[4]", "x", {.skip_empty = true});
  EXPECT_EQ(ids.tokens.size(), 1u);
  EXPECT_EQ(ids.tokens[0].line, 3);
  EXPECT_EQ(ids.empty, 2);
}

TEST(JsonLines, LinesAndTextAreBounded) {
  const std::string line = "{\"text\": \"" + std::string(88, 'x') + "\"}";  // 100 bytes
  const std::string two = line + "\n" + line + "\n";
  EXPECT_EQ(ParseJsonLines(two, "f", {.max_line_bytes = 100, .max_text_bytes = 176}).texts.size(),
            2u);
  ExpectError(ErrorCode::kCorruptInput, "f, line 1: longer than 99 bytes",
              [&] { ParseJsonLines(two, "f", {.max_line_bytes = 99}); });
  ExpectError(ErrorCode::kUnsupported, "f, line 2: more than 175 bytes of text",
              [&] { ParseJsonLines(two, "f", {.max_text_bytes = 175}); });
  EXPECT_EQ(ParseJsonLines("[1, 2]\n[3]", "f", {.max_text_bytes = 12}).tokens.size(), 2u);
  ExpectError(ErrorCode::kUnsupported, "f, line 2: more than 11 bytes of text",
              [&] { ParseJsonLines("[1, 2]\n[3]", "f", {.max_text_bytes = 11}); });
  // A line without an end is refused as soon as it is too long, not when the file ends.
  JsonLinesParser parser("f", {.max_line_bytes = 100});
  parser.Add(std::string(60, ' '));
  ExpectError(ErrorCode::kCorruptInput, "f, line 1: longer than 100 bytes",
              [&] { parser.Add(std::string(60, ' ')); });
}

}  // namespace
}  // namespace narrow
