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
                             "x"),
              ElementsAre("one", "tw\xC3\xB6\n", ""));
  EXPECT_THAT(ParseJsonLines("", "x"), IsEmpty());
  EXPECT_THAT(ParseJsonLines("\n\n", "x"), IsEmpty());
}

TEST(JsonLines, TheCutsBetweenPiecesDoNotMatter) {
  const std::string_view bytes =
      "{\"text\": \"a\"}\n\n{\"text\": \"\xE2\x82\xAC\"}\r\n{\"text\": \"c\"}";
  const auto expected = ParseJsonLines(bytes, "x");
  ASSERT_EQ(expected.size(), 3u);
  for (std::size_t first = 0; first <= bytes.size(); ++first) {
    for (std::size_t second = first; second <= bytes.size(); ++second) {
      JsonLinesParser parser("x");
      parser.Add(bytes.substr(0, first));
      parser.Add(bytes.substr(first, second - first));
      parser.Add(bytes.substr(second));
      ASSERT_EQ(parser.Finish(), expected) << first << " " << second;
    }
  }
}

TEST(JsonLines, StopsAtTheLastDocumentWantedAndLooksNoFurther) {
  JsonLinesParser parser("x", {.max_documents = 2});
  EXPECT_TRUE(parser.Add("{\"text\": \"one\"}\n{\"text\": "));
  EXPECT_FALSE(parser.Add("\"two\"}\nnot JSON at all\n"));
  EXPECT_FALSE(parser.Add("\xFF\n"));
  EXPECT_THAT(parser.Finish(), ElementsAre("one", "two"));
}

TEST(JsonLines, RefusalsNameTheLine) {
  struct Case {
    std::string_view line;
    std::string_view message;
  };
  const Case cases[] = {
      {"{\"text\": 3}", "f.jsonl, line 3: \"text\" should be a string, found an integer"},
      {"{\"content\": \"a\"}", "f.jsonl, line 3: \"text\" is missing"},
      {"{\"text\": null}", "f.jsonl, line 3: \"text\" is missing"},
      {"[\"text\"]", "f.jsonl, line 3: expected a JSON object with member \"text\", found array"},
      {"\"text\"", "f.jsonl, line 3: expected a JSON object"},
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
  EXPECT_THAT(ParseJsonLines(bytes, "f"), ElementsAre("a NaN"));
  ExpectError(ErrorCode::kCorruptInput, "f, line 1: \"text\" should be a string, found NaN",
              [] { ParseJsonLines("{\"text\": NaN}", "f"); });
}

TEST(JsonLines, LinesAndTextAreBounded) {
  const std::string line = "{\"text\": \"" + std::string(88, 'x') + "\"}";  // 100 bytes
  const std::string two = line + "\n" + line + "\n";
  EXPECT_EQ(ParseJsonLines(two, "f", {.max_line_bytes = 100, .max_text_bytes = 176}).size(), 2u);
  ExpectError(ErrorCode::kCorruptInput, "f, line 1: longer than 99 bytes",
              [&] { ParseJsonLines(two, "f", {.max_line_bytes = 99}); });
  ExpectError(ErrorCode::kUnsupported, "f, line 2: more than 175 bytes of text",
              [&] { ParseJsonLines(two, "f", {.max_text_bytes = 175}); });
  // A line without an end is refused as soon as it is too long, not when the file ends.
  JsonLinesParser parser("f", {.max_line_bytes = 100});
  parser.Add(std::string(60, ' '));
  ExpectError(ErrorCode::kCorruptInput, "f, line 1: longer than 100 bytes",
              [&] { parser.Add(std::string(60, ' ')); });
}

}  // namespace
}  // namespace narrow
