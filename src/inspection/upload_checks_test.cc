#include "inspection/upload_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/temporary_tree.h"

namespace narrow {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kCard =
    "---\nbase_model: org/Tiny\nbase_model_relation: quantized\nlicense: mit\nlibrary_name: vllm\n"
    "pipeline_tag: text-generation\nmodel-index:\n- name: x\n  results:\n  - task:\n      type: "
    "text-generation\n    dataset: {name: a, type: b}\n    metrics: [{type: c, value: 1}]\n---\n";

// What is said of a quantized checkpoint with this card ("" means none) and these files.
std::vector<std::string> RemarksOn(std::string_view card,
                                   const std::vector<std::string>& files = {
                                       "generation_config.json", "config.json"}) {
  const TemporaryTree tree;
  if (!card.empty()) tree.Write("README.md", card);
  for (const std::string& file : files) tree.Write(file, "{}");
  Inventory inventory;
  inventory.config = ParseJson(R"({"quantization_config": {}})", "config");
  inventory.tensors.push_back({.name = "a", .shape = {}, .file = "model.safetensors", .scale = {}});
  Findings findings;
  CheckForUpload(tree.root(), inventory, findings);
  std::vector<std::string> remarks;
  for (const Finding& finding : findings.Take()) {
    remarks.push_back((finding.severity == Severity::kError ? "E " : "W ") + finding.text);
  }
  return remarks;
}

// The card with `text` in place of `part`.
std::string Changed(std::string_view part, std::string_view text) {
  std::string card(kCard);
  card.replace(card.find(part), part.size(), text);
  return card;
}

TEST(UploadChecks, SaysNothingOfACompleteModel) {
  EXPECT_THAT(RemarksOn(kCard), IsEmpty());
  EXPECT_THAT(RemarksOn(kCard, {"config.json", "generation_config.json", "model.safetensors",
                                "tokenizer.json", "LICENSE", ".gitattributes", "report.html",
                                "narrow-output.json", "additional_chat_templates/a.jinja"}),
              IsEmpty());
}

TEST(UploadChecks, NamesWhatIsMissing) {
  EXPECT_THAT(RemarksOn(""), ElementsAre(HasSubstr("E for an upload: there is no README.md")));
  EXPECT_THAT(RemarksOn("# Title"),
              ElementsAre(HasSubstr("W for an upload: README.md has no meta")));
  EXPECT_THAT(RemarksOn("---\ntags: [a]\n---\n", {"config.json"}),
              ElementsAre(HasSubstr("no base_model"), HasSubstr("no license"),
                          HasSubstr("no library_name"), HasSubstr("no pipeline_tag"),
                          HasSubstr("no results"), HasSubstr("no generation_config.json")));
  EXPECT_THAT(RemarksOn(Changed("base_model_relation: quantized\n", "")),
              ElementsAre(HasSubstr("W for an upload: README.md names a base_model, but not")));
  EXPECT_THAT(RemarksOn(Changed("license: mit", "license: other\nlicense_link: LICENSE")),
              ElementsAre(HasSubstr("without a license_name"), HasSubstr("no file here")));
}

TEST(UploadChecks, NamesWhatTheHubRefuses) {
  for (const auto& [part, text, remark] : std::vector<std::array<std::string_view, 3>>{
           {"license: mit", "license: [mit", "no YAML"},
           {"license: mit", "license: [mit]", "no string"},
           {"org/Tiny", "../Tiny", "no name of a model"},
           {"org/Tiny", "[org/a, 1]", "no name of a model"},
           {"{type: c, value: 1}", "{type: c}", "lacks type or value"},
           {"{name: a, type: b}", "{name: a}", "dataset.type"},
           {"- name: x", "- title: x", "lacks name"},
           {"model-index:\n- name: x\n  results:", "model-index: {}\nother:\n- a:", "no list"}}) {
    EXPECT_THAT(RemarksOn(Changed(part, text)),
                ElementsAre(testing::AllOf(testing::StartsWith("E "), HasSubstr(remark))))
        << text;
  }
}

TEST(UploadChecks, NamesFilesThatDoNotBelong) {
  EXPECT_THAT(RemarksOn(kCard, {"generation_config.json", ".env", "notes.txt", "pytorch_model.bin",
                                "runs/a"}),
              ElementsAre(HasSubstr("\".env\""), HasSubstr("\"notes.txt\""),
                          HasSubstr("\"pytorch_model.bin\""), HasSubstr("\"runs\"")));
}

TEST(UploadChecks, LooksBeyondALinkThatLeadsNowhere) {
  const TemporaryTree tree;
  tree.Write("README.md", kCard);
  tree.Write("generation_config.json", "{}");
  for (const char* name : {"a", "b", "c", "d"}) {
    std::filesystem::create_symlink("nowhere", tree.root() / name);
  }
  Findings findings;
  CheckForUpload(tree.root(), {}, findings);
  EXPECT_EQ(findings.count(), 4);
}

}  // namespace
}  // namespace narrow
