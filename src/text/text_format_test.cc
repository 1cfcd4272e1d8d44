#include "text/text_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

namespace narrow {
namespace {

TEST(TextFormat, Seconds) {
  EXPECT_EQ(FormatSeconds(0), "0.00 s");
  EXPECT_EQ(FormatSeconds(12.34), "12.3 s");
  EXPECT_EQ(FormatSeconds(125), "2 min 05 s");
  EXPECT_EQ(FormatSeconds(3725), "1 h 02 min 05 s");
  EXPECT_EQ(FormatSeconds(std::nan("")), "n/a");
  EXPECT_EQ(FormatSeconds(-1), "n/a");
}

TEST(TextFormat, BytesAndCounts) {
  EXPECT_EQ(FormatBytes(1023), "1023 bytes");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(642'000'000), "612.3 MiB");
  EXPECT_EQ(FormatBytes(std::numeric_limits<int64_t>::max()), "8192.0 PiB");
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(46026), "46,026");
  EXPECT_EQ(FormatCount(-123456), "-123,456");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
}

TEST(TextFormat, Change) {
  EXPECT_EQ(FormatChange(7.2169, 7.2752), "+0.81 %");
  EXPECT_EQ(FormatChange(20, 19), "-5.00 %");
  EXPECT_EQ(FormatChange(0, 19), "n/a");
  EXPECT_EQ(FormatChange(19, std::numeric_limits<double>::infinity()), "n/a");
}

TEST(TextFormat, ControlCharactersAreReplaced) {
  EXPECT_EQ(PrintableText("a\x1b[31m\nb\x7f\xC2\x9B"
                          "1mé"),
            "a?[31m?b??1mé");
  EXPECT_EQ(MarkdownText("<b>|`x`\n[a](b) & C_d"), "\\<b\\>\\|\\`x\\`?\\[a\\](b) &amp; C_d");
}

TEST(TextFormat, ShellCommandQuotesOnlyWhatNeedsIt) {
  const std::vector<std::string> plain = {"narrow", "quantize", "--model_dir", "/a/b-1.5_c"};
  EXPECT_EQ(ShellCommand(plain), "narrow quantize --model_dir /a/b-1.5_c");
  const std::vector<std::string> odd = {"", "a b", "it's", "*", "$x"};
  EXPECT_EQ(ShellCommand(odd), R"('' 'a b' 'it'\''s' '*' '$x')");
}

// bash is the judge of what the quoting means.
TEST(TextFormat, AShellReadsTheSameWordsBack) {
  const std::vector<std::string> words = {"a b",       "it's",   "new\nline0", "tab\t'\\q",
                                          "\x1b[31m7", "~",      "!x",         "a;b&c|d",
                                          "",          "back\\", "\"q\"",      "#no"};
  std::vector<std::string> command = {"printf", "%s|"};
  command.insert(command.end(), words.begin(), words.end());
  const std::vector<std::string> shell = {"bash", "-c", ShellCommand(command)};
  FILE* pipe = popen(ShellCommand(shell).c_str(), "r");
  if (pipe == nullptr) GTEST_SKIP() << "no shell";
  std::string output;
  for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) output += static_cast<char>(c);
  if (pclose(pipe) != 0) GTEST_SKIP() << "no bash";
  std::string expected;
  for (const std::string& word : words) expected += word + "|";
  EXPECT_EQ(output, expected);
}

TEST(TextFormat, IllFormedBytesBecomeReadable) {
  EXPECT_EQ(ReadableUtf8("naïve ✓"), "naïve ✓");
  EXPECT_EQ(ReadableUtf8("\x93 end"), "<0x93> end");
  EXPECT_EQ(ReadableUtf8("a\xE2\x9C"), "a<0xE2><0x9C>");
  EXPECT_EQ(ReadableUtf8(std::string_view("\0\xC0\x80", 3)), std::string("\0<0xC0><0x80>", 13));
}

}  // namespace
}  // namespace narrow
