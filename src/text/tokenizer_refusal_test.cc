// Every tokenizer.json and text that must be refused, with the code and a part of the message.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

constexpr const char* kModel =
    R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]})";

std::string WithModel(const std::string& model) { return R"({"model": )" + model + "}"; }

std::string With(const std::string& member) {
  return "{" + member + R"(, "model": )" + kModel + "}";
}

std::string WithPattern(const std::string& pattern) {
  return With(R"("pre_tokenizer": {"type": "Split", "behavior": "Isolated", "invert": false,
                  "pattern": {"Regex": ")" +
              pattern + R"("}})");
}

struct Refusal {
  std::string json;
  ErrorCode code;
  std::string message_part;
};

void ExpectRefused(const Refusal& refusal) {
  SCOPED_TRACE(refusal.json);
  try {
    Tokenizer::FromJson(refusal.json, "test");
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), refusal.code) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(refusal.message_part));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
  }
}

TEST(TokenizerRefusal, AcceptsTheModelTheOthersAreMadeFrom) {
  const Tokenizer tokenizer = Tokenizer::FromJson(WithModel(kModel), "test");
  EXPECT_EQ(tokenizer.Encode("abba", SpecialTokens::kAdd), (std::vector<int32_t>{2, 1, 0}));
  EXPECT_EQ(tokenizer.vocabulary_size(), 3);
}

TEST(TokenizerRefusal, NamesWhatIsNotSupported) {
  const ErrorCode code = ErrorCode::kUnsupported;
  const Refusal refusals[] = {
      {WithModel(R"({"type": "Unigram", "vocab": []})"), code, "Unigram"},
      {WithModel(R"({"type": "WordPiece", "vocab": {}})"), code, "WordPiece"},
      {WithModel(R"({"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []})"), code, "dropout"},
      {WithModel(R"({"type": "WordLevel", "vocab": {}})"), code, "WordLevel"},
      {WithModel(R"({"vocab": [["a", -1.0]]})"), code, "\"Unigram\""},
      {WithModel(R"({"type": "Unigram", "vocab": []})"), code, "given as token ids"},
      {With(R"("normalizer": {"type": "Precompiled"})"), code, "normalizer \"Precompiled\""},
      {With(R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "Nmt"}]})"), code,
       "Nmt"},
      {With(R"("pre_tokenizer": {"type": "UnicodeScripts"})"), code, "UnicodeScripts"},
      {With(R"("pre_tokenizer": {"type": "FixedLength", "length": 0})"), code, "FixedLength of 0"},
      {With(R"("post_processor": {"type": "Other"})"), code, "\"Other\""},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(refusal);
}

TEST(TokenizerRefusal, RefusesContradictions) {
  const ErrorCode code = ErrorCode::kCorruptInput;
  const Refusal refusals[] = {
      {"", code, "not valid JSON"},
      {"[]", code, "expected an object"},
      {"{}", code, "model"},
      {std::string(100, '[') + std::string(100, ']'), code, "nested"},
      {WithModel(R"({"merges": []})"), code, "no vocab"},
      {WithModel(R"({"vocab": {}})"), code, "no merges"},
      {WithModel(R"({"vocab": {"a": -1}, "merges": []})"), code, "id -1"},
      {WithModel(R"({"vocab": {"a": 4000000000}, "merges": []})"), code, "id 4000000000"},
      {WithModel(R"({"vocab": {"a": 18446744073709551615}, "merges": []})"), code, "id 1844"},
      {WithModel(R"({"vocab": {"a": 1.5}, "merges": []})"), code, "id 1.5"},
      {WithModel(R"({"vocab": {"a": "1"}, "merges": []})"), code, "id string"},
      {WithModel(R"({"vocab": {"a": 1, "b": 1}, "merges": []})"), code, "two tokens have id 1"},
      {WithModel(R"({"vocab": {"a": 0, "a": 1}, "merges": []})"), code, "twice"},
      {WithModel(R"({"vocab": {"a": 0, "ab": 1}, "merges": ["a b"]})"), code, "needs \"b\""},
      {WithModel(R"({"vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]})"), code, "needs \"ab\""},
      {WithModel(R"({"vocab": {"a": 0, "": 1}, "merges": [["a", ""]]})"), code, "needs \"\""},
      {WithModel(R"({"vocab": {"a": 0}, "merges": ["aa"]})"), code, "not two tokens"},
      {WithModel(R"({"vocab": {"a": 0}, "merges": ["a a a"]})"), code, "not two tokens"},
      {WithModel(R"({"vocab": {"a": 0}, "merges": [["a"]]})"), code, "merge 0"},
      {WithModel(R"({"vocab": {"a": 0}, "merges": [3]})"), code, "merge 0"},
      {WithModel(R"({"vocab": {"a": 0}, "merges": [], "unk_token": "?"})"), code, "unk_token"},
      {WithModel(R"({"vocab": {"a": 0}, "merges": [], "fuse_unk": 1})"), code, "fuse_unk"},
      {With(R"("added_tokens": [3])"), code, "added_tokens"},
      {With(R"("added_tokens": [{"id": 3}])"), code, "content"},
      {With(R"("added_tokens": [{"id": -3, "content": "x"}])"), code, "id -3"},
      {With(R"("added_tokens": [{"id": 3000000000, "content": "x"}])"), code, "id 3000000000"},
      {With(R"("added_tokens": [{"id": 9, "content": "x"}])"), code, "makes it 3"},
      {With(R"("added_tokens": [{"id": 3, "content": "a"}])"), code, "makes it 0"},
      {With(R"("added_tokens": [{"id": 3, "content": "x"}, {"id": 3, "content": "y"}])"), code,
       "makes it 4"},
      {With(R"("added_tokens": [{"id": 3, "content": "x"}, {"id": 4, "content": "x"}])"), code,
       "makes it 3"},
      {With(R"("normalizer": {"type": "Replace", "pattern": {}, "content": ""})"), code, "pattern"},
      {With(R"("normalizer": {"type": "Strip", "strip_left": true})"), code, "strip_right"},
      {With(R"("normalizer": {"type": "Sequence"})"), code, "normalizers"},
      {With(R"("pre_tokenizer": {"type": "Sequence"})"), code, "pretokenizers"},
      {With(R"("pre_tokenizer": {"type": "Split", "behavior": "Odd", "pattern": {"String": "a"}})"),
       code, "Odd"},
      {With(R"("pre_tokenizer": {"type": "Metaspace", "replacement": "__"})"), code, "replacement"},
      {With(R"("pre_tokenizer": {"type": "Metaspace", "replacement": "_",
               "prepend_scheme": "last"})"),
       code, "last"},
      {With(R"("pre_tokenizer": {"type": "Metaspace", "replacement": "_", "add_prefix_space": false,
               "prepend_scheme": "first"})"),
       code, "add_prefix_space false"},
      {With(R"("pre_tokenizer": {"type": "CharDelimiterSplit", "delimiter": ""})"), code,
       "delimiter"},
      {With(R"("pre_tokenizer": {"type": "Punctuation", "behavior": "Odd"})"), code, "Odd"},
      {With(R"("post_processor": {"type": "BertProcessing", "sep": ["a", 0]})"), code, "cls"},
      {With(
           R"("post_processor": {"type": "RobertaProcessing", "cls": ["a", 0], "sep": ["b", -2]})"),
       code, "sep"},
      {With(R"("post_processor": {"type": "Sequence"})"), code, "processors"},
      {With(R"("post_processor": {"type": "TemplateProcessing"})"), code, "single"},
      {With(R"("post_processor": {"type": "TemplateProcessing", "single": [{}]})"), code,
       "template piece"},
      {With(R"("post_processor": {"type": "TemplateProcessing", "single": [{"Sequence":
               {"id": "B"}}]})"),
       code, "sequence A"},
      {With(R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken":
               {"id": "<s>"}}]})"),
       code, "<s>"},
      {With(R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken":
               {"id": "<s>"}}], "special_tokens": {"<s>": {"ids": [-1]}}})"),
       code, "<s>"},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(refusal);
}

TEST(TokenizerRefusal, RefusesPatterns) {
  ExpectRefused({WithPattern("(a"), ErrorCode::kCorruptInput, "does not compile"});
  ExpectRefused({WithPattern("[a[b]"), ErrorCode::kCorruptInput, "a class has no end"});
  ExpectRefused({WithPattern(std::string(40, '[') + "a" + std::string(40, ']')),
                 ErrorCode::kUnsupported, "nested this deep"});
  ExpectRefused({WithPattern("[a"), ErrorCode::kCorruptInput, "does not compile"});
  ExpectRefused({WithPattern("a**"), ErrorCode::kCorruptInput, "does not compile"});
  for (const char* pattern : {"\\\\R", "\\\\X", "\\\\K", "\\\\v", "[a&&]", "[&&a]", "[[:graph:]]",
                              "(?x:a)", "(?<n>a)", "a{1,3}+", "a{,3}", "(*FAIL)",
                              "\\\\p{NoSuchProperty}", "\\\\pL", "\\\\1", "(?R)", "(?<=a+)b"}) {
    ExpectRefused({WithPattern(pattern), ErrorCode::kUnsupported, "regular expression"});
  }
}

TEST(TokenizerRefusal, RefusesChainsWithoutEnd) {
  std::string digits = R"({"type": "Digits"})";
  std::string prepends = R"({"type": "Prepend", "prepend": "a"})";
  const std::string adds = R"({"type": "BertProcessing", "cls": ["a", 0], "sep": ["b", 1]})";
  for (int i = 0; i < 100; ++i) {
    digits += R"(, {"type": "Digits"})";
    prepends += R"(, {"type": "Prepend", "prepend": "a"})";
  }
  const ErrorCode code = ErrorCode::kUnsupported;
  ExpectRefused(
      {With(R"("pre_tokenizer": {"type": "Sequence", "pretokenizers": [)" + digits + "]}"), code,
       "more than 64 pre-tokenizers"});
  ExpectRefused({With(R"("normalizer": {"type": "Sequence", "normalizers": [)" + prepends + "]}"),
                 code, "more than 64 normalizers"});
  ExpectRefused({With(R"("post_processor": {"type": "Sequence", "processors": [)" + adds + ", " +
                      adds + "]}"),
                 code, "two post-processors"});
}

TEST(TokenizerRefusal, GivesUpOnTextThatMultiplies) {
  std::string replace = R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"})";
  const std::string one = replace;
  for (int i = 0; i < 20; ++i) replace += ", " + one;
  const Tokenizer tokenizer = Tokenizer::FromJson(
      With(R"("normalizer": {"type": "Sequence", "normalizers": [)" + replace + "]}"), "test");
  try {
    tokenizer.Encode("a", SpecialTokens::kNone);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), testing::HasSubstr("normalizer makes more than"));
  }
}

TEST(TokenizerRefusal, GivesUpOnEndlessBacktracking) {
  const Tokenizer tokenizer = Tokenizer::FromJson(WithPattern("(a|aa)+$"), "test");
  EXPECT_EQ(tokenizer.Encode("aaa", SpecialTokens::kNone).size(), 3u);
  try {
    tokenizer.Encode(std::string(5000, 'a') + "b", SpecialTokens::kNone);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), testing::HasSubstr("gave up"));
  }
}

TEST(TokenizerRefusal, ReportsWhereUtf8IsInvalid) {
  const Tokenizer tokenizer = Tokenizer::FromJson(WithModel(kModel), "test");
  const std::pair<std::string, std::string> texts[] = {
      {"ab\xFF", "byte 2 (0xff)"},           {"12345678\xC0\x80", "byte 8 (0xc0)"},
      {"\xED\xA0\x80", "byte 0 (0xed)"},     {"a\xE2\x96", "byte 1 (0xe2)"},
      {"\xF4\x90\x80\x80", "byte 0 (0xf4)"},
  };
  for (const auto& [text, place] : texts) {
    try {
      tokenizer.Encode(text, SpecialTokens::kNone);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptInput);
      EXPECT_THAT(error.what(), testing::HasSubstr(place));
    }
  }
}

TEST(TokenizerRefusal, ReportsMissingFile) {
  try {
    Tokenizer::FromDirectory("no-such-directory");
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), testing::HasSubstr("no-such-directory"));
  }
}

}  // namespace
}  // namespace narrow
