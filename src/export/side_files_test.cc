#include "export/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "export/temporary_tree.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Names(const SideFilePlan& plan) {
  std::vector<std::string> names;
  for (const SideFile& file : plan.files) names.push_back(file.name);
  return names;
}

TEST(SideFiles, LeavesOutWhatTheRunWritesItself) {
  const TemporaryTree tree;
  for (const char* name : {"config.json", "README.md", "README_zh.md", "readme.md",
                           "narrow-report.json", "narrow-output.json", "model.safetensors",
                           "model.safetensors.index.json", "pytorch_model.bin", "weights.GGUF",
                           "consolidated.00.pth", ".gitattributes", "sub/tokenizer.json"}) {
    tree.Write(name, "{}");
  }
  for (const char* name : {"tokenizer.json", "tokenizer.model", "chat_template.jinja", "LICENSE",
                           "special_tokens_map.json", "merges.txt"}) {
    tree.Write(name, "{}");
  }
  const SideFilePlan plan = PlanSideFiles(tree.root());
  EXPECT_THAT(Names(plan),
              ElementsAre("LICENSE", "chat_template.jinja", "merges.txt", "special_tokens_map.json",
                          "tokenizer.json", "tokenizer.model"));
  EXPECT_THAT(plan.warnings, IsEmpty());
}

TEST(SideFiles, CopiesByteForByteWhateverTheName) {
  const TemporaryTree tree;
  std::string large(3 * (1 << 20) + 17, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 31 % 251);
  tree.Write("in/tokenizer.json", large);
  tree.Write("in/empty.txt", "");
  tree.Write("in/a\nb \x1b[31m.txt", "x");
  fs::create_directory(tree.root() / "out");
  CopySideFiles(PlanSideFiles(tree.root() / "in"), tree.root() / "out");
  EXPECT_TRUE(tree.Read("out/tokenizer.json") == large);
  EXPECT_TRUE(fs::is_regular_file(tree.root() / "out/empty.txt"));
  EXPECT_EQ(tree.Read("out/empty.txt"), "");
  EXPECT_EQ(tree.Read("out/a\nb \x1b[31m.txt"), "x");
}

TEST(SideFiles, FollowsTheLinksOfAHuggingFaceCache) {
  const TemporaryTree tree;
  tree.Write("models--a--b/blobs/0123", "vocabulary");
  const fs::path snapshot = tree.root() / "models--a--b/snapshots/main";
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/0123", snapshot / "tokenizer.json");
  fs::create_directory(tree.root() / "out");
  const SideFilePlan plan = PlanSideFiles(snapshot);
  EXPECT_THAT(plan.warnings, IsEmpty());
  CopySideFiles(plan, tree.root() / "out");
  EXPECT_EQ(tree.Read("out/tokenizer.json"), "vocabulary");
  EXPECT_FALSE(fs::is_symlink(tree.root() / "out/tokenizer.json"));
}

TEST(SideFiles, WarnsOfLinksThatLeadElsewhereAndOfSpecialFiles) {
  const TemporaryTree tree;
  tree.Write("private/key", "secret");
  tree.Write("model/tokenizer.json", "{}");
  const fs::path model = tree.root() / "model";
  fs::create_symlink("../private/key", model / "notes.txt");
  fs::create_symlink("nowhere", model / "broken.txt");
  fs::create_symlink("tokenizer.json", model / "same.json");
  fs::create_symlink("../private", model / "folder");
  ASSERT_EQ(mkfifo((model / "pipe").c_str(), 0600), 0);
  const SideFilePlan plan = PlanSideFiles(model);
  EXPECT_THAT(Names(plan), ElementsAre("same.json", "tokenizer.json"));
  EXPECT_THAT(plan.warnings,
              ElementsAre(HasSubstr("broken.txt"), HasSubstr("notes.txt"), HasSubstr("pipe")));
}

TEST(SideFiles, RefusesADirectoryThatIsNotThere) {
  const TemporaryTree tree;
  EXPECT_THROW(PlanSideFiles(tree.root() / "absent"), Error);
}

std::string CopiedGenerationConfig(std::string_view contents) {
  const TemporaryTree tree;
  tree.Write("in/generation_config.json", contents);
  fs::create_directory(tree.root() / "out");
  CopySideFiles(PlanSideFiles(tree.root() / "in"), tree.root() / "out");
  return tree.Read("out/generation_config.json");
}

TEST(GenerationConfig, GetsDoSampleWhereSamplingFieldsAsk) {
  EXPECT_EQ(CopiedGenerationConfig(R"({"top_p":0.9,"eos_token_id":2})"),
            "{\n  \"top_p\": 0.9,\n  \"eos_token_id\": 2,\n  \"do_sample\": true\n}\n");
  EXPECT_EQ(CopiedGenerationConfig(R"({"do_sample":false,"temperature":0.6})"),
            "{\n  \"do_sample\": true,\n  \"temperature\": 0.6\n}\n");
}

TEST(GenerationConfig, StaysAsItIsOtherwise) {
  for (const std::string_view contents :
       {R"({"eos_token_id":[1,  2]})", R"({"do_sample": true,"top_k":50})", R"({"top_p":null})",
        R"({"temperature":0.0,"top_p":0.9})"}) {
    EXPECT_EQ(CopiedGenerationConfig(contents), contents);
  }
}

TEST(GenerationConfig, BrokenOnesAreRefusedByName) {
  for (const std::string_view contents : {"{", "[]", R"({"do_sample":"yes"})"}) {
    const TemporaryTree tree;
    tree.Write("generation_config.json", contents);
    try {
      PlanSideFiles(tree.root());
      ADD_FAILURE() << contents;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptInput);
      EXPECT_THAT(error.what(), HasSubstr("generation_config.json"));
    }
  }
}

}  // namespace
}  // namespace narrow
