#include "model/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "io/temporary_tree.h"

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

// Digests, as blobs of a cache are called.
const std::string kSha1(40, 'a');
const std::string kSha256(64, '0');

TEST(SideFiles, FollowsBlobsThatWereMovedOrLieOnAnotherDisk) {
  const TemporaryTree tree;
  tree.Write("disk/store/one", "license");
  tree.Write("disk/store/two", "{}");
  tree.Write("blobs/" + kSha256, "notes");
  fs::create_directories(tree.root() / "blobs");
  fs::create_symlink(tree.root() / "disk/store/one", tree.root() / "blobs" / kSha1);
  tree.Write("elsewhere/model/config.json", "{}");
  const fs::path model = tree.root() / "elsewhere/model";
  fs::create_symlink("../../blobs/" + kSha1, model / "THIRD_PARTY.txt");
  fs::create_symlink(tree.root() / "blobs" / kSha256, model / "notes.txt");
  // The folder of blobs is a link itself.
  fs::create_directories(tree.root() / "cache/snapshots/main");
  fs::create_directory_symlink("../disk/store", tree.root() / "cache/blobs");
  fs::create_symlink("../../blobs/two", tree.root() / "cache/snapshots/main/other.json");
  const SideFilePlan moved = PlanSideFiles(model);
  EXPECT_THAT(Names(moved), ElementsAre("THIRD_PARTY.txt", "notes.txt"));
  EXPECT_THAT(moved.warnings, IsEmpty());
  const SideFilePlan cached = PlanSideFiles(tree.root() / "cache/snapshots/main");
  EXPECT_THAT(Names(cached), ElementsAre("other.json"));
  EXPECT_THAT(cached.warnings, IsEmpty());
}

TEST(SideFiles, FollowsTheNamesThatServersReadWhereverTheyLead) {
  const TemporaryTree tree;
  tree.Write("elsewhere/a", R"({"a": 1})");
  tree.Write("elsewhere/b", "{{ template }}");
  tree.Write("model/config.json", "{}");
  tree.Write("model/additional_chat_templates/real.jinja", "{{ real }}");
  const fs::path model = tree.root() / "model";
  fs::create_symlink("../elsewhere/a", model / "tokenizer_config.json");
  fs::create_symlink(tree.root() / "elsewhere/b", model / "chat_template.jinja");
  fs::create_symlink("../../elsewhere/b", model / "additional_chat_templates/linked.jinja");
  const SideFilePlan plan = PlanSideFiles(model);
  EXPECT_THAT(plan.warnings, ElementsAre(HasSubstr("outside of the model directory")));
  EXPECT_THAT(plan.warnings, ElementsAre(HasSubstr("tokenizer_config.json")));
  fs::create_directory(tree.root() / "out");
  CopySideFiles(plan, tree.root() / "out");
  EXPECT_EQ(tree.Read("out/tokenizer_config.json"), R"({"a": 1})");
  EXPECT_EQ(tree.Read("out/chat_template.jinja"), "{{ template }}");
  EXPECT_EQ(tree.Read("out/additional_chat_templates/linked.jinja"), "{{ template }}");
  EXPECT_EQ(tree.Read("out/additional_chat_templates/real.jinja"), "{{ real }}");
  for (const auto& entry : fs::recursive_directory_iterator(tree.root() / "out")) {
    EXPECT_FALSE(fs::is_symlink(entry.path())) << entry.path();
  }
}

TEST(SideFiles, TakesOnlyTemplatesOfTheFolderOfTemplates) {
  const TemporaryTree tree;
  for (const char* name : {"tool_use.jinja", ".hidden.jinja", "notes.txt", "sub/deep.jinja"}) {
    tree.Write(std::string("additional_chat_templates/") + name, "x");
  }
  tree.Write("other/tokenizer.json", "{}");
  const SideFilePlan plan = PlanSideFiles(tree.root());
  EXPECT_THAT(Names(plan), ElementsAre("additional_chat_templates/tool_use.jinja"));
}

// What cannot be followed under a name that a server reads, and what the message says of it.
TEST(SideFiles, RefusesToLeaveOutWhatAServerReads) {
  const auto refused = [](ErrorCode code, const char* message, const auto& make) {
    const TemporaryTree tree;
    tree.Write("private/key", "secret");
    tree.Write("model/config.json", "{}");
    make(tree.root() / "model");
    try {
      PlanSideFiles(tree.root() / "model");
      ADD_FAILURE() << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  };
  refused(ErrorCode::kNotFound, "../gone/blob, which does not exist", [](const fs::path& model) {
    fs::create_symlink("../gone/blob", model / "tokenizer_config.json");
  });
  refused(ErrorCode::kNotFound, "special_tokens_map.json: missing", [](const fs::path& model) {
    fs::create_symlink("special_tokens_map.json", model / "special_tokens_map.json");
  });
  refused(ErrorCode::kIo, "not a regular file", [](const fs::path& model) {
    fs::create_symlink("/dev/null", model / "chat_template.jinja");
  });
  refused(ErrorCode::kIo, "not a regular file",
          [](const fs::path& model) { fs::create_symlink("../private", model / "vocab.json"); });
  refused(ErrorCode::kIo, "not a regular file", [](const fs::path& model) {
    ASSERT_EQ(mkfifo((model / "merges.txt").c_str(), 0600), 0);
  });
  refused(ErrorCode::kCorruptInput, "tokenizer_config.json", [](const fs::path& model) {
    fs::create_symlink("../private/key", model / "tokenizer_config.json");
  });
  refused(ErrorCode::kIo, "cp -rL", [](const fs::path& model) {
    fs::create_symlink("../private", model / "additional_chat_templates");
  });
}

TEST(SideFiles, LeavesTheConfigurationOfAnAdapterBehind) {
  const TemporaryTree tree;
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin",
                           "tokenizer.json"}) {
    tree.Write(name, "{}");
  }
  EXPECT_THAT(Names(PlanSideFiles(tree.root())), ElementsAre("tokenizer.json"));
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
