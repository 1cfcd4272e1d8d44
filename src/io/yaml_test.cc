#include "io/yaml.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace narrow {
namespace {

TEST(Yaml, ReadsWhatCardsHold) {
  // The values are those of PyYAML 6.0.
  const Json json = ParseYaml(
      "license: apache-2.0\nbase_model:\n- org/a\n- \"org/b\"\ntags: [fp8, 'vllm']\n"
      "model-index:\n- name: x\n  results:\n  - metrics:\n    - {type: ppl, value: 20.5}\n"
      "empty:\nflag: true\ntext: |\n  two\n  lines\n# a comment\nunicode: \"\\u00e9\"\n",
      "card");
  EXPECT_EQ(json.dump(),
            "{\"license\":\"apache-2.0\",\"base_model\":[\"org/a\",\"org/b\"],\"tags\":[\"fp8\","
            "\"vllm\"],\"model-index\":[{\"name\":\"x\",\"results\":[{\"metrics\":[{\"type\":"
            "\"ppl\",\"value\":20.5}]}]}],\"empty\":null,\"flag\":true,\"text\":\"two\\nlines\\n\","
            "\"unicode\":\"\xc3\xa9\"}");
  EXPECT_TRUE(ParseYaml("", "card").is_null());
  EXPECT_EQ(ParseYaml("a: '1'", "card")["a"], Json("1"));
  EXPECT_EQ(ParseYaml("a: 1\na: 2", "card")["a"], Json(2.0));
}

TEST(Yaml, RefusesWhatIsNone) {
  std::string keys;
  for (int i = 0; i <= 1000; ++i) keys += std::to_string(i) + ":\n";
  for (const std::string& text :
       {std::string("a: [b"), std::string("a: b: c"), std::string("\t- a"), std::string("a: \xff"),
        std::string("a: &x 1\nb: *x"), std::string("b: *x"), std::string("? [a]\n: b"),
        std::string("--- a\n--- b"), std::string(100, '['), std::string(65, '[').append("a"), keys,
        std::string(static_cast<std::size_t>(kMaxYamlBytes) + 1, ' ')}) {
    try {
      ParseYaml(text, "card");
      ADD_FAILURE() << text.substr(0, 40);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptInput);
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    }
  }
}

TEST(Yaml, FindsTheFrontMatter) {
  EXPECT_EQ(FrontMatterOf("---\na: b\n---\n# Title"), "a: b");
  EXPECT_EQ(FrontMatterOf("\r\n---\r\na: b\r\nc: d\r\n---"), "a: b\r\nc: d");
  EXPECT_EQ(FrontMatterOf("---\na: ---b\n---- \n--- \n"), "a: ---b\n---- ");
  for (const char* card : {"", "---", "---\n", "a: b\n---\n", "---\na: b\n", "--- a\n---\n"}) {
    EXPECT_EQ(FrontMatterOf(card), std::nullopt) << card;
  }
}

}  // namespace
}  // namespace narrow
