#include "io/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "io/scratch_directory.h"

namespace narrow {
namespace {

void ExpectRefused(std::string_view text, std::string_view fragment) {
  ExpectError(ErrorCode::kCorruptInput, fragment, [&] { ParseJson(text, "a.json"); });
}

TEST(ParseJson, KeepsOrderTypesAndEscapes) {
  const Json json = ParseJson(
      R"({"z":[1,-2,2.5,true,null,"\u00e9\ud83d\ude00\n"],"a":{"b":{}},"m":18446744073709551615})",
      "x");
  EXPECT_EQ(json.dump(),
            "{\"z\":[1,-2,2.5,true,null,\"\u00e9\U0001F600\\n\"],\"a\":{\"b\":{}},"
            "\"m\":18446744073709551615}");
  EXPECT_EQ(ParseJson(" 7 ", "x"), Json(7));
  EXPECT_EQ(ParseJson("[[],[[]]]", "x").dump(), "[[],[[]]]");
}

TEST(ParseJson, NamesThePlaceOfASyntaxError) {
  ExpectRefused("", "a.json: not valid JSON at line 1, column 1");
  ExpectRefused("{\"a\":\n nul}", "line 2, column 5");
  ExpectRefused("{\"a\":1}x", "line 1, column 8");
  ExpectRefused("[1,]", "line 1, column 4");
  ExpectRefused("{\"a\"", "not valid JSON");
  ExpectRefused("\"unclosed", "not valid JSON");
  ExpectRefused("[1e999]", "overflow");
  ExpectRefused("[01]", "not valid JSON");
  ExpectRefused("\"\n\"", "not valid JSON");
  ExpectRefused(std::string_view("[\0]", 3), "not valid JSON");
  ExpectRefused("{1:2}", "not valid JSON");
}

// As Python's json writes and reads them; what it refuses stays refused.
TEST(ParseJson, NumbersThatAreNone) {
  const Json json = ParseJson(
      R"({"NaN":[NaN,Infinity,-Infinity],"s":"NaN, \"Infinity\\","n":[1E2,0E0,-0E0,1E+00000],"l":
 NaN})",
      "x");
  ASSERT_EQ(json["NaN"].size(), 3u);
  EXPECT_TRUE(std::isnan(json["NaN"][0].get<double>()));
  EXPECT_EQ(json["NaN"][1].get<double>(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(json["NaN"][2].get<double>(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(json["s"], "NaN, \"Infinity\\");
  EXPECT_EQ(json["n"].dump(), "[100.0,0.0,-0.0,1.0]");
  EXPECT_TRUE(std::isnan(json["l"].get<double>()));
  EXPECT_TRUE(std::isnan(ParseJson("NaN", "x").get<double>()));
  for (const char* text : {"[nan]", "[-NaN]", "[+Infinity]", "[NaN1]", "[1NaN]", "[Infinityx]",
                           "[InfinityNaN]", "[NaN NaN]", "[--Infinity]", "[1-Infinity]", "[.NaN]",
                           "[NaN.0]", "{NaN:1}", "[inf]", "[NaN", "[\"NaN]"}) {
    ExpectRefused(text, "not valid JSON");
  }
  ExpectRefused("{\"a\":NaN,\n\"b\": nul}", "line 2, column 9");
  for (const char* text : {"[NaN]", "[1,-Infinity]"}) {
    ExpectError(ErrorCode::kCorruptInput, "not valid JSON",
                [&] { ParseJson(text, "x", {.non_finite = NonFinite::kRefused}); });
  }
}

TEST(ParseJson, RefusesIllFormedUtf8) {
  for (const char* bytes : {"\xFF", "\x80", "\xC0\xAF", "\xE0\x80\x80", "\xED\xA0\x80",
                            "\xF4\x90\x80\x80", "\xC3", "\xF0\x9F\x98"}) {
    ExpectRefused(std::string("{\"k\": \"") + bytes + "\"}", "not valid JSON at line 1");
    ExpectRefused(std::string("{\"") + bytes + "\": 1}", "not valid JSON at line 1");
  }
  ExpectRefused(R"(["\ud800"])", "surrogate");
  ExpectRefused(R"(["\udc00x"])", "surrogate");
}

TEST(ParseJson, LimitsDepthWithoutRecursion) {
  ExpectRefused(std::string(100'000, '['), "nested deeper than 64 levels at line 1, column 65");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"[[[\":";
  ExpectRefused(objects, "nested deeper than 64 levels");
  const std::string allowed = std::string(64, '[') + std::string(64, ']');
  EXPECT_EQ(ParseJson(allowed, "x").dump(), allowed);
  ExpectRefused(fmt::format("[{}]", allowed), "nested deeper");
  ExpectError(ErrorCode::kCorruptInput, "deeper than 2 levels at line 2, column 3",
              [] { ParseJson("[\"]]\\\"\",[1],\n [[1]]]", "x", {.max_depth = 2}); });
}

TEST(ParseJson, RefusesDuplicateKeys) {
  ExpectRefused(R"({"a":1,"b":2,"a":3})", "key \"a\" twice");
  ExpectRefused(R"([{"b":{"c":1,"\u0063":1}}])", "key \"c\" twice");
  EXPECT_EQ(ParseJson(R"([{"a":1},{"a":{"a":2}}])", "x").size(), 2u);
}

TEST(ParseJson, LimitsBytes) {
  ExpectError(ErrorCode::kCorruptInput, "at most 4",
              [] { ParseJson("[1,2]", "x", {.max_bytes = 4}); });
}

// Inserting one by one into the object would take hours here.
TEST(ParseJson, LargeObjects) {
  constexpr int kKeys = 1'000'000;
  std::string text = "{\"-1\":0";
  for (int i = 0; i < kKeys; ++i) text += fmt::format(",\"{}\":{}", i, i);
  const Json json = ParseJson(text + "}", "x");
  ASSERT_EQ(json.size(), kKeys + 1u);
  EXPECT_EQ(json.items().begin().key(), "-1");
  EXPECT_EQ(json.back(), Json(kKeys - 1));
  ExpectRefused(text + ",\"77777\":0}", "key \"77777\" twice");
}

TEST(ParseJson, MessagesStayShortAndPrintable) {
  try {
    ParseJson(fmt::format("{{\"{}\":", std::string(1 << 20, '\x01')), "x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_LT(std::string_view(error.what()).size(), 300u);
  }
  EXPECT_EQ(Quoted("a\nb\x7F\xC3\xA9"), "\"a?b???\"");
  EXPECT_EQ(Quoted(std::string(121, 'x')), fmt::format("\"{}...\"", std::string(120, 'x')));
}

TEST(JsonLiteral, EscapesAndRefusesBadText) {
  EXPECT_EQ(JsonLiteral("a\"\\\n\u00e9"), "\"a\\\"\\\\\\n\u00e9\"");
  ExpectError(ErrorCode::kInvalidArgument, "UTF-8", [] { JsonLiteral("\xFF"); });
}

TEST(ReadJsonFile, NamesTheFile) {
  const ScratchDirectory scratch;
  const std::string path = scratch.Put("broken.json", "{").string();
  ExpectError(ErrorCode::kCorruptInput, path + ": not valid", [&] { ReadJsonFile(path); });
  ExpectError(ErrorCode::kNotFound, "absent.json",
              [&] { ReadJsonFile((scratch.path() / "absent.json").string()); });
}

TEST(Members, TypedAccess) {
  const Json json = ParseJson(
      R"({"i":-3,"f":1.5,"b":true,"s":"x","n":null,"o":{},"a":[],"big":9223372036854775808})", "c");
  EXPECT_EQ(OptionalInt(json, "i", "c"), -3);
  EXPECT_EQ(OptionalInt(json, "n", "c"), std::nullopt);
  EXPECT_EQ(OptionalInt(json, "absent", "c"), std::nullopt);
  EXPECT_EQ(OptionalNumber(json, "f", "c"), 1.5);
  EXPECT_EQ(OptionalNumber(json, "i", "c"), -3.0);
  EXPECT_EQ(OptionalBool(json, "b", "c"), true);
  EXPECT_EQ(OptionalString(json, "s", "c"), "x");
  EXPECT_EQ(OptionalObject(json, "absent", "c"), nullptr);
  EXPECT_TRUE(OptionalObject(json, "o", "c")->is_object());
  EXPECT_TRUE(OptionalArray(json, "a", "c")->is_array());
  EXPECT_EQ(RequiredInt(json, "i", "c"), -3);
  EXPECT_EQ(RequiredNumber(json, "f", "c"), 1.5);
  EXPECT_EQ(RequiredString(json, "s", "c"), "x");

  const auto refused = [](std::string_view fragment, auto action) {
    ExpectError(ErrorCode::kCorruptInput, fragment, action);
  };
  refused("c: \"f\" should be a 64-bit integer, found a number",
          [&] { OptionalInt(json, "f", "c"); });
  refused("64-bit integer", [&] { OptionalInt(json, "big", "c"); });
  refused("found a string", [&] { OptionalNumber(json, "s", "c"); });
  refused("true or false, found an integer", [&] { OptionalBool(json, "i", "c"); });
  refused("a string, found an array", [&] { OptionalString(json, "a", "c"); });
  refused("an object, found an array", [&] { OptionalObject(json, "a", "c"); });
  refused("an array, found an object", [&] { OptionalArray(json, "o", "c"); });
  refused("\"absent\" is missing", [&] { RequiredInt(json, "absent", "c"); });
  refused("\"n\" is null", [&] { RequiredString(json, "n", "c"); });
  refused("expected an object with \"k\"", [&] { OptionalInt(Json::array(), "k", "c"); });

  const Json none = ParseJson(R"({"nan":NaN,"inf":-Infinity})", "c");
  refused("c: \"nan\" should be a finite number, found NaN",
          [&] { OptionalNumber(none, "nan", "c"); });
  refused("a finite number, found Infinity", [&] { RequiredNumber(none, "inf", "c"); });
  refused("a 64-bit integer, found NaN", [&] { OptionalInt(none, "nan", "c"); });
  refused("a string, found Infinity", [&] { RequiredString(none, "inf", "c"); });
}

TEST(RenderJsonFile, IndentsByTwoAndEndsTheLine) {
  EXPECT_EQ(RenderJsonFile(ParseJson(R"({"a":[1],"b":"é"})", "text")),
            "{\n  \"a\": [\n    1\n  ],\n  \"b\": \"é\"\n}\n");
}

}  // namespace
}  // namespace narrow
