// Rules, patterns and fused matrices, on checkpoints of headers and zeros.
#include "jobs/module_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "io/checkpoint_writer.h"
#include "io/scratch_directory.h"
#include "jobs/recipe.h"
#include "jobs/scheme_targets.h"
#include "schemes/scheme_presets.h"

namespace narrow {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

// A checkpoint of zeros with these matrices.
class Checkpoint {
 public:
  explicit Checkpoint(const std::map<std::string, Shape>& tensors,
                      const std::string& config = R"({"num_hidden_layers": 9})") {
    std::vector<TensorSpec> specs;
    for (const auto& [name, shape] : tensors) specs.push_back({name, Dtype::kBF16, shape});
    CheckpointWriter writer(scratch_.path(), PlanShards(specs, int64_t{1} << 40));
    for (const TensorSpec& spec : specs) {
      writer.Write(spec.name, std::vector<std::byte>(static_cast<std::size_t>(spec.bytes())));
    }
    writer.Finish();
    scratch_.Put("config.json", config);
    reader_ = std::make_unique<CheckpointReader>(scratch_.path());
  }
  const CheckpointReader& reader() const { return *reader_; }

 private:
  ScratchDirectory scratch_;
  std::unique_ptr<CheckpointReader> reader_;
};

ChoiceRequest Request(const std::string& scheme, const std::string& format = "compressed-tensors") {
  ChoiceRequest request;
  request.recipe = RecipeOfScheme(scheme);
  request.format = &FindSchemeFormat(format, request.recipe.Schemes().front());
  return request;
}

ChoiceRequest Mixed(const std::string& rules) {
  ChoiceRequest request;
  request.recipe = ParseRecipe("{\"rules\": " + rules + "}", "recipe");
  request.format = &FindSchemeFormat("compressed-tensors", request.recipe.Schemes().front());
  return request;
}

std::vector<std::string> Quantized(const ModuleChoices& choices) {
  std::vector<std::string> names;
  for (const ModuleChoice& choice : choices.modules) {
    if (choice.quantized()) names.push_back(choice.linear.module);
  }
  return names;
}

std::string ReasonOf(const ModuleChoices& choices, const std::string& module) {
  for (const ModuleChoice& choice : choices.modules) {
    if (choice.linear.module == module) return choice.reason;
  }
  return "no such module";
}

const std::map<std::string, Shape> kAttention = {
    {"model.layers.0.a.q_proj.weight", {256, 128}}, {"model.layers.0.a.k_proj.weight", {128, 128}},
    {"model.layers.0.a.v_proj.weight", {64, 128}},  {"model.layers.0.a.o_proj.weight", {128, 256}},
    {"model.layers.0.a.k_norm.weight", {128}},      {"lm_head.weight", {32, 128}}};

TEST(ModuleChoice, LinearsAreQuantizedAndTheHeadIsIgnored) {
  const Checkpoint checkpoint(kAttention);
  const ModuleChoices choices = ChooseModules(checkpoint.reader(), Request("FP8_BLOCK"));
  EXPECT_EQ(Quantized(choices).size(), 4u);  // v_proj is the last part, and may be ragged
  EXPECT_THAT(choices.Describe().ignored, ElementsAre("lm_head"));
  EXPECT_TRUE(choices.Describe().groups.at(0).targets.empty());
}

TEST(ModuleChoice, RaggedPartsBeforeTheLastLeaveTheGroup) {
  auto tensors = kAttention;
  tensors["model.layers.0.a.k_proj.weight"] = {64, 128};
  const Checkpoint checkpoint(tensors);
  const ModuleChoices choices = ChooseModules(checkpoint.reader(), Request("FP8_BLOCK"));
  EXPECT_THAT(Quantized(choices), ElementsAre("model.layers.0.a.o_proj"));
  EXPECT_THAT(ReasonOf(choices, "model.layers.0.a.q_proj"), HasSubstr("64 rows"));
  EXPECT_THAT(choices.warnings, ElementsAre(HasSubstr("3 matrices")));
  EXPECT_EQ(Quantized(ChooseModules(checkpoint.reader(), Request("FP8_DYNAMIC"))).size(), 4u);
}

TEST(ModuleChoice, TheFormatFp8TakesNoRaggedPartAtAll) {
  const Checkpoint checkpoint(kAttention);
  const ModuleChoices choices = ChooseModules(checkpoint.reader(), Request("FP8_BLOCK", "fp8"));
  EXPECT_THAT(Quantized(choices), ElementsAre("model.layers.0.a.o_proj"));
}

TEST(ModuleChoice, ColumnsThatAreNoWholeGroupsLeaveTheFusedMatrix) {
  const Checkpoint checkpoint({{"l.0.gate_proj.weight", {64, 160}},
                               {"l.0.up_proj.weight", {64, 160}},
                               {"l.0.down_proj.weight", {160, 64}}});
  EXPECT_THAT(Quantized(ChooseModules(checkpoint.reader(), Request("MXFP4"))).size(), 3u);
  ExpectError(ErrorCode::kUnsupported, "no multiple of 128",
              [&] { ChooseModules(checkpoint.reader(), Request("W4A16")); });
}

TEST(ModuleChoice, ZeroPointsNeedWholeWordsOfRows) {
  const Checkpoint checkpoint({{"l.0.fc.weight", {12, 128}}, {"l.1.fc.weight", {16, 128}}});
  EXPECT_EQ(Quantized(ChooseModules(checkpoint.reader(), Request("W4A16"))).size(), 2u);
  EXPECT_THAT(Quantized(ChooseModules(checkpoint.reader(), Request("W4A16_ASYM"))),
              ElementsAre("l.1.fc"));
}

TEST(ModuleChoice, ExpertsOfALayerGoTogether) {
  const Checkpoint checkpoint({{"model.layers.0.mlp.experts.0.w1.weight", {128, 128}},
                               {"model.layers.0.mlp.experts.0.w3.weight", {128, 128}},
                               {"model.layers.0.mlp.experts.0.w2.weight", {128, 64}},
                               {"model.layers.1.mlp.fc.weight", {128, 128}},
                               {"model.layers.1.mlp.gate.weight", {8, 128}}});
  const ModuleChoices choices = ChooseModules(checkpoint.reader(), Request("FP8_BLOCK"));
  EXPECT_THAT(Quantized(choices), ElementsAre("model.layers.1.mlp.fc"));
  EXPECT_EQ(ReasonOf(choices, "model.layers.1.mlp.gate"), "router");
  ChoiceRequest split = Request("FP8_DYNAMIC");
  split.exclude_patterns = {"*.w2"};
  ExpectError(ErrorCode::kInvalidArgument, "leave both or none",
              [&] { ChooseModules(checkpoint.reader(), split); });
}

TEST(ModuleChoice, TensorsOfExpertsInOnePieceAreCopiedWithAWarning) {
  const Checkpoint checkpoint({{"model.layers.0.mlp.experts.gate_up_proj", {2, 64, 128}},
                               {"model.layers.0.mlp.fc.weight", {128, 128}}});
  const ModuleChoices choices = ChooseModules(checkpoint.reader(), Request("FP8_DYNAMIC"));
  EXPECT_THAT(choices.warnings, ElementsAre(HasSubstr("model.layers.0.mlp.experts")));
  EXPECT_THAT(choices.Describe().ignored, ElementsAre("model.layers.0.mlp.experts", "lm_head"));
}

TEST(ModuleChoice, PatternsExcludeAndInclude) {
  const Checkpoint checkpoint(kAttention);
  ChoiceRequest request = Request("FP8_DYNAMIC");
  request.exclude_patterns = {"*.o_proj"};
  request.include_patterns = {"lm_head"};
  const ModuleChoices choices = ChooseModules(checkpoint.reader(), request);
  EXPECT_EQ(Quantized(choices).front(), "lm_head");
  EXPECT_EQ(ReasonOf(choices, "model.layers.0.a.o_proj"), "--exclude_layers *.o_proj");
  request.exclude_patterns = {"*.q_proj"};
  ExpectError(ErrorCode::kInvalidArgument, "q_proj would stay",
              [&] { ChooseModules(checkpoint.reader(), request); });
  request.exclude_patterns = {"*.down_proj"};
  ExpectError(ErrorCode::kInvalidArgument, "matches no matrix",
              [&] { ChooseModules(checkpoint.reader(), request); });
}

TEST(ModuleChoice, RecipesMixSchemes) {
  const Checkpoint checkpoint(kAttention);
  const ModuleChoices choices = ChooseModules(
      checkpoint.reader(),
      Mixed(
          R"([{"modules": "*.o_proj", "scheme": "w4a16"}, {"modules": "*", "scheme": "FP8_DYNAMIC"}])"));
  const SchemeDescription description = choices.Describe();
  ASSERT_EQ(description.groups.size(), 2u);
  EXPECT_THAT(description.groups[1].targets,
              UnorderedElementsAre(R"(re:.*layers\.\d+\.a\.o_proj$)"));
  EXPECT_EQ(description.groups[1].scheme, GetSchemePreset("W4A16").scheme);
}

TEST(ModuleChoice, RecipesThatSplitAFusedMatrixAreRefused) {
  const Checkpoint checkpoint(kAttention);
  for (
      const auto& [rules, message] : std::map<std::string, std::string>{
          {R"([{"modules": "*.q_proj", "scheme": "W8A8"}, {"modules": "*", "scheme": "FP8_DYNAMIC"}])",
           "different schemes"},
          {R"([{"modules": ["*.v_proj"], "scheme": null}, {"modules": "*", "scheme": "W8A8"}])",
           "leave both or none"},
          {R"([{"modules": "*.o_proj", "scheme": "W8A8"}, {"modules": "*.w9", "scheme": "W8A8"}])",
           "matches no matrix"}}) {
    ExpectError(ErrorCode::kInvalidArgument, message,
                [&, text = rules] { ChooseModules(checkpoint.reader(), Mixed(text)); });
  }
}

TEST(Recipe, RefusesWhatItDoesNotKnow) {
  for (const auto& [text, message] : std::map<std::string, std::string>{
           {R"({"rules": []})", "a list of rules"},
           {R"({"rule": 1})", "no member"},
           {R"({"rules": [{"modules": "*", "scheme": "fp9"}]})", "is not known"},
           {R"({"rules": [{"modules": 3, "scheme": "W8A8"}]})", "pattern of module names"},
           {R"({"rules": [{"modules": ["*", 1], "scheme": "W8A8"}]})", "pattern of module names"},
           {R"({"rules": [{"modules": "*"}]})", "null for modules that stay"},
           {R"({"rules": [{"modules": "*", "scheme": null}]})", "nothing would be quantized"},
           {R"({"rules": [7]})", "should be an object"}}) {
    ExpectError(ErrorCode::kInvalidArgument, message,
                [recipe = text] { ParseRecipe(recipe, "recipe"); });
  }
  ExpectError(ErrorCode::kCorruptInput, "expected an object", [] { ParseRecipe("[]", "recipe"); });
}

TEST(SchemeTargets, NumbersOfLayersWhereTheyTellSchemesApart) {
  EXPECT_THAT(SchemeTargets({{"model.layers.0.fc", "model.layers.12.fc"}, {"model.layers.0.up"}}),
              ElementsAre(ElementsAre(R"(re:.*layers\.\d+\.fc$)"),
                          ElementsAre(R"(re:.*layers\.\d+\.up$)")));
  EXPECT_THAT(SchemeTargets({{"model.layers.0.fc", "model.layers.2.fc"}, {"model.layers.1.fc"}}),
              ElementsAre(ElementsAre(R"(re:.*layers\.(0|2)\.fc$)"),
                          ElementsAre(R"(re:.*layers\.(1)\.fc$)")));
  EXPECT_THAT(SchemeTargets({{"m.layers.0.e.0.w", "m.layers.1.e.0.w"}, {"m.layers.0.e.1.w"}}),
              ElementsAre(ElementsAre("m.layers.0.e.0.w", R"(re:.*layers\.(1)\.e\.\d+\.w$)"),
                          ElementsAre("m.layers.0.e.1.w")));
  EXPECT_THAT(SchemeTargets({{"head"}, {"other+x.3.y"}}),
              ElementsAre(ElementsAre("head"), ElementsAre(R"(re:.*other\+x\.\d+\.y$)")));
}

}  // namespace
}  // namespace narrow
