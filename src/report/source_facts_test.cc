#include "report/source_facts.h"

#include <gtest/gtest.h>

#include "io/temporary_tree.h"

namespace narrow {
namespace {

std::optional<std::string> LicenseOf(std::string_view file, std::string_view contents) {
  const TemporaryTree tree;
  tree.Write(file, contents);
  return ReadSourceFacts(tree.root()).license;
}

TEST(SourceFacts, NamesTheModelByFolderOrCache) {
  EXPECT_EQ(ReadSourceFacts("/models/Tiny-1B").name, "Tiny-1B");
  EXPECT_EQ(ReadSourceFacts("/models/Tiny-1B//").name, "Tiny-1B");
  EXPECT_EQ(ReadSourceFacts("/models/x/../Tiny-1B/.").name, "Tiny-1B");
  EXPECT_EQ(ReadSourceFacts("/c/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f").name,
            "meta-llama/Llama-3.1-8B");
}

TEST(SourceFacts, ReadsTheLicenseOfTheFrontMatter) {
  EXPECT_EQ(LicenseOf("README.md", "---\nlanguage: en\nlicense: llama3.1\n---\n# A"), "llama3.1");
  EXPECT_EQ(LicenseOf("README.md", "---\r\nlicense: \"apache-2.0\"\r\n---\r\n"), "apache-2.0");
}

TEST(SourceFacts, IgnoresWhatIsNoIdentifierInAFrontMatter) {
  for (const std::string_view readme :
       {"license: mit\n", "---\na: b\n---\nlicense: mit\n", "---\nlicense: [a](b)\n---\n",
        "---\nlicense:\n---\n", "---\nlicense: a b\n---\n", "---\nlicense: [mit]\n---\n", "---", "",
        "---\nlicense: mit\n"}) {
    EXPECT_EQ(LicenseOf("README.md", readme), std::nullopt) << readme;
  }
  EXPECT_EQ(LicenseOf("README.md", "---\nlicense: " + std::string(65, 'a') + "\n---\n"),
            std::nullopt);
}

TEST(SourceFacts, TakesNameAndLinkOfAnotherLicense) {
  const TemporaryTree tree;
  tree.Write("README.md",
             "---\nlicense: other\nlicense_name: some-1.0\nlicense_link: LICENSE\n---\n");
  const SourceFacts facts = ReadSourceFacts(tree.root());
  EXPECT_EQ(facts.license, "other");
  EXPECT_EQ(facts.license_name, "some-1.0");
  EXPECT_EQ(facts.license_link, "LICENSE");
}

std::vector<std::string> AncestorsOf(std::string_view readme, std::string_view config) {
  const TemporaryTree tree;
  tree.Write("README.md", readme);
  tree.Write("config.json", config);
  return ReadSourceFacts(tree.root()).ancestors;
}

TEST(SourceFacts, NamesWhatTheModelWasMadeOf) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(AncestorsOf("---\nbase_model: org/Tiny\n---\n", R"({"_name_or_path": "a/b"})"),
            Names{"org/Tiny"});
  EXPECT_EQ(AncestorsOf("---\nbase_model:\n- org/a\n- gpt2\n---\n", "{}"),
            (Names{"org/a", "gpt2"}));
  EXPECT_EQ(AncestorsOf("# Tiny", R"({"_name_or_path": "org/Tiny"})"), Names{"org/Tiny"});
  for (const std::string_view config :
       {R"({"_name_or_path": "/home/me/Tiny"})", R"({"_name_or_path": "Tiny"})",
        R"({"_name_or_path": "../Tiny"})", R"({"_name_or_path": 1})", "[]", "{", ""}) {
    EXPECT_EQ(AncestorsOf("---\nbase_model: [a b, org/c]\n---\n", config), Names{}) << config;
  }
}

TEST(SourceFacts, FallsBackToTheTitleOfTheLicenseFile) {
  EXPECT_EQ(LicenseOf("LICENSE", "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\n"), "llama3.1");
  EXPECT_EQ(LicenseOf("LICENSE.txt", "   Apache License\n  Version 2.0"), "apache-2.0");
  EXPECT_EQ(LicenseOf("LICENSE", "All rights reserved."), std::nullopt);
  const TemporaryTree tree;
  tree.Write("LICENSE", "All rights reserved.");
  EXPECT_EQ(ReadSourceFacts(tree.root()).license_file, "LICENSE");
  EXPECT_EQ(ReadSourceFacts(tree.root() / "absent").license_file, std::nullopt);
}

}  // namespace
}  // namespace narrow
