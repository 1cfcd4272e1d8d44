// What lies beside the weights of a checkpoint: tokenizers in other forms, adapters, and the links
// of a Hugging Face cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "tests/cli/found_checkpoint.h"
#include "tests/support/stored_tensors.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::Not;

TEST_F(FoundCheckpoint, ATokenizerInAnotherFormIsNamedWithTheStep) {
  fs::remove(model() / "tokenizer.json");
  const int not_found = static_cast<int>(ErrorCode::kNotFound);
  EXPECT_THAT(Inspect(model()).output, HasSubstr("no tokenizer"));
  for (const char* name : {"tokenizer.model", "vocab.json", "tiktoken.model"}) {
    WriteFile(model() / name, "x");
    WriteFile(scratch_.path() / "lines.jsonl", "{\"text\":\"a\"}\n");
    for (const CommandResult& result :
         {Evaluate(model()), Quantize(),
          RunNarrow({"tokenize", "--model_dir", model().string(), "--input_file",
                     (scratch_.path() / "lines.jsonl").string()})}) {
      EXPECT_EQ(result.status, not_found);
      EXPECT_THAT(result.LastErrorLine(), HasSubstr(name));
      EXPECT_THAT(result.LastErrorLine(), HasSubstr("save_pretrained"));
    }
    EXPECT_THAT(Inspect(model()).output, HasSubstr(name));
    fs::remove(model() / name);
  }
}

TEST_F(FoundCheckpoint, AnAdapterBesideTheModelIsNamedAndLeftBehind) {
  WriteFile(model() / "adapter_config.json", R"({"base_model_name_or_path":"acme/base"})");
  WriteFile(model() / "adapter_model.safetensors", "any");
  for (const CommandResult& result : {Evaluate(model()), Quantize()}) {
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.error, HasSubstr("warning: adapter_config.json"));
    EXPECT_THAT(result.error, HasSubstr("acme/base"));
  }
  EXPECT_FALSE(fs::exists(output() / "adapter_config.json"));
  EXPECT_FALSE(fs::exists(output() / "adapter_model.safetensors"));
  EXPECT_THAT(Inspect(model()).output, HasSubstr("adapter_config.json"));
}

TEST_F(FoundCheckpoint, FittedHeadsAreSaidToSpoilAdapters) {
  WriteFile(model() / "adapter_config.json", "{}");
  for (const char* basis : {"fitted", "none"}) {
    const bool fitted = basis == std::string_view("fitted");
    const CommandResult result = Quantize({"--overwrite", "--head_basis", basis});
    ASSERT_EQ(result.status, 0) << result.error;
    EXPECT_EQ(result.error.find("use --head_basis none") != std::string::npos, fitted);
    for (const char* name : {"README.md", "report.html"}) {
      const std::string text = ReadFile(output() / name);
      EXPECT_EQ(text.find("LoRA adapter trained for the original") != std::string::npos, fitted);
    }
    const CommandResult inspected = Inspect(output());
    EXPECT_EQ(inspected.output.find("note: made with --head_basis fitted") != std::string::npos,
              fitted)
        << inspected.output;
    EXPECT_THAT(inspected.output, HasSubstr("no problems found"));
    for (const char* name : {"narrow-report.json", "narrow-output.json"}) {
      EXPECT_THAT(ReadFile(output() / name),
                  HasSubstr(fmt::format("\"head_basis\": \"{}\"", basis)))
          << name;
    }
  }
  EXPECT_THAT(RunNarrow({"quantize", "--help"}).output, HasSubstr("LoRA"));
}

// Links like those of a Hugging Face cache, with the blobs at `blobs`.
void LinkToBlobs(const fs::path& model, const fs::path& blobs, const fs::path& link_prefix) {
  fs::create_directories(blobs);
  int64_t number = 0;
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(model)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  for (const fs::path& file : files) {
    const std::string digest = fmt::format("{:064x}", ++number);
    fs::rename(file, blobs / digest);
    fs::path up;
    if (link_prefix.is_relative() && file.parent_path() != model) up = "..";
    fs::create_symlink(up / link_prefix / digest, file);
  }
}

TEST_F(FoundCheckpoint, EverythingAServerNeedsComesOutOfACache) {
  fs::create_directories(model() / "additional_chat_templates");
  WriteFile(model() / "additional_chat_templates" / "tool_use.jinja", "{{ tools }}");
  WriteFile(model() / "chat_template.jinja", "{{ messages }}");
  ASSERT_EQ(Quantize().status, 0);
  const std::set<std::string> expected = Names(output());
  EXPECT_THAT(expected, IsSupersetOf({"tokenizer.json", "tokenizer_config.json", "LICENSE",
                                      "generation_config.json", "chat_template.jinja",
                                      "additional_chat_templates"}));
  const fs::path snapshot = scratch_.path() / "cache/models--acme--tiny/snapshots/0123";
  fs::create_directories(snapshot.parent_path());
  fs::rename(model(), snapshot);
  LinkToBlobs(snapshot, snapshot.parent_path().parent_path() / "blobs", "../../blobs");
  const auto check = [&](const fs::path& directory) {
    const CommandResult result =
        RunNarrow(QuantizeArguments(directory.string(), output().string(),
                                    {"--skip_evaluation", "--num_calib_data", "4", "--overwrite"}));
    ASSERT_EQ(result.status, 0) << result.error;
    EXPECT_THAT(result.error, Not(HasSubstr("symbolic")));
    EXPECT_EQ(Names(output()), expected);
    for (const auto& entry : fs::recursive_directory_iterator(output())) {
      EXPECT_FALSE(entry.is_symlink()) << entry.path();
    }
    EXPECT_EQ(ReadFile(output() / "additional_chat_templates" / "tool_use.jinja"), "{{ tools }}");
    EXPECT_EQ(ReadFile(output() / "tokenizer.json"), ByteTokenizer());
    EXPECT_THAT(Inspect(output()).output, HasSubstr("no problems found"));
  };
  check(snapshot);
  // Linked again from another folder: links to links.
  const fs::path again = scratch_.path() / "again";
  fs::create_directories(again / "additional_chat_templates");
  for (const auto& entry : fs::directory_iterator(snapshot)) {
    if (entry.is_directory() && !entry.is_symlink()) continue;
    fs::create_symlink(entry.path(), again / entry.path().filename());
  }
  fs::create_symlink(snapshot / "additional_chat_templates/tool_use.jinja",
                     again / "additional_chat_templates/tool_use.jinja");
  check(again);
  // The blobs are moved to another disk, and a link stands in their place.
  const fs::path blobs = snapshot.parent_path().parent_path() / "blobs";
  fs::rename(blobs, scratch_.path() / "disk");
  fs::create_directory_symlink(scratch_.path() / "disk", blobs);
  check(snapshot);
  // A directory link to the snapshot.
  fs::create_directory_symlink(snapshot, scratch_.path() / "link");
  check(scratch_.path() / "link");
}

TEST_F(FoundCheckpoint, LinksThatLeadNowhereEndTheJobBeforeWork) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "config.json",
                           "model.safetensors", "generation_config.json"}) {
    const fs::path kept = scratch_.path() / "kept";
    fs::rename(model() / name, kept);
    fs::create_symlink("../../blobs/gone", model() / name);
    const CommandResult result = Quantize();
    EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kNotFound)) << name;
    EXPECT_THAT(result.LastErrorLine(), HasSubstr(name));
    EXPECT_THAT(result.LastErrorLine(), HasSubstr("../../blobs/gone"));
    EXPECT_FALSE(fs::exists(output()));
    fs::remove(model() / name);
    fs::rename(kept, model() / name);
  }
}

TEST_F(FoundCheckpoint, LinksToAnotherFolderAreFollowedUnderNamesThatServersRead) {
  const fs::path cache = scratch_.path() / "cache";
  fs::rename(model(), cache);
  fs::create_directory(model());
  for (const auto& entry : fs::directory_iterator(cache)) {
    fs::create_symlink("../cache" / entry.path().filename(), model() / entry.path().filename());
  }
  WriteFile(scratch_.path() / "secret", "secret");
  fs::create_symlink("../secret", model() / "notes.txt");
  const CommandResult result = Quantize();
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(Names(output()),
              IsSupersetOf({"tokenizer.json", "tokenizer_config.json", "LICENSE"}));
  EXPECT_FALSE(fs::exists(output() / "notes.txt"));
  EXPECT_THAT(result.error, HasSubstr("outside of the model directory"));
  EXPECT_THAT(result.error, HasSubstr("notes.txt"));
  EXPECT_THAT(Inspect(output()).output, HasSubstr("no problems found"));
}

}  // namespace
}  // namespace narrow
