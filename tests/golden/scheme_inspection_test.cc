// inspect on the checkpoints of other tools: nothing wrong with them as they are, and each mistake
// that vLLM would refuse or misread found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "inspection/inspect.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/shared_data.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Tensors = std::map<std::string, StoredTensor>;

std::string Errors(const fs::path& directory) {
  std::string text;
  for (const Finding& finding : Inspect(directory).problems) {
    if (finding.severity == Severity::kError) text += finding.text + "\n";
  }
  return text;
}

TEST(SchemeInspection, NothingIsWrongWithTheToolsCheckpoints) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  for (const char* folder :
       {"ct-fp8-dynamic", "ct-fp8-block", "fp8-block", "ct-int8-dynamic", "ct-int8-static",
        "ct-w4a16", "ct-w4a16-asym", "ct-mxfp4", "ct-nvfp4", "ct-nvfp4a16", "quark-ptpc-fp8",
        "quark-mxfp4", "quark-mxfp4-weight-only", "ct-fp8-static", "ct-fp8-static-kv",
        "ragged/ct-mxfp8", "ragged/ct-nvfp4"}) {
    const ScratchDirectory copy;
    CopyCheckpoint(base / folder, copy.path());
    EXPECT_EQ(Errors(copy.path()), "") << folder;
  }
}

TEST(SchemeInspection, BlocksThatVllmRefusesAreFound) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const ScratchDirectory copy;
  CopyCheckpoint(base / "ragged/ct-fp8-block", copy.path());
  const std::string errors = Errors(copy.path());
  EXPECT_THAT(errors, HasSubstr("q_proj has 64 rows, no multiple of 128; vLLM refuses this"));
  EXPECT_THAT(errors, HasSubstr("gate_proj has 160 rows"));
}

// Errors of a checkpoint after `change` of its tensors and its quantization_config.
std::string ErrorsAfter(const std::string& folder,
                        const std::function<void(Tensors&, Json&)>& change) {
  const ScratchDirectory copy, changed;
  CopyCheckpoint(fs::path(SharedPath("golden/schemes")) / folder, copy.path());
  Tensors tensors = ReadTensors(copy.path());
  Json config = ReadJsonFile((copy.path() / "config.json").string());
  change(tensors, config["quantization_config"]);
  WriteTensors(changed.path(), tensors);
  WriteFile(changed.path() / "config.json", config.dump());
  return Errors(changed.path());
}

constexpr const char* kUp = "model.layers.0.mlp.up_proj";

struct Mistake {
  const char* folder;
  const char* message;
  std::function<void(Tensors&, Json&)> change;
};

TEST(SchemeInspection, EveryMistakeIsNamed) {
  if (SharedPath("golden/schemes").empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const std::string up = kUp;
  const std::vector<Mistake> mistakes = {
      {"ct-nvfp4a16", "vLLM uses the largest for all",
       [&](Tensors& tensors, Json&) {
         const float global = 77.0f;
         std::memcpy(tensors.at(up + ".weight_global_scale").bytes.data(), &global, 4);
       }},
      {"ct-fp8-dynamic", "leaves it unquantized",
       [&](Tensors&, Json& config) { config["ignore"].push_back(up); }},
      {"ct-fp8-dynamic", "is BF16, but the configuration does not list it",
       [&](Tensors& tensors, Json&) {
         StoredTensor& weight = tensors.at(up + ".weight");
         weight.dtype = Dtype::kBF16;
         weight.bytes.resize(weight.bytes.size() * 2);
         tensors.erase(up + ".weight_scale");
       }},
      {"fp8-block", "uninitialised memory",
       [&](Tensors& tensors, Json& config) {
         StoredTensor& weight = tensors.at(up + ".weight");
         weight.dtype = Dtype::kBF16;
         weight.bytes.resize(weight.bytes.size() * 2);
         config["modules_to_not_convert"].push_back(up);
       }},
      {"ct-fp8-block", "holds nan, expected positive numbers",
       [&](Tensors& tensors, Json&) {
         std::memcpy(tensors.at(up + ".weight_scale").bytes.data(), "\xC0\x7F", 2);
       }},
      {"ct-w4a16", "has no weight_scale",
       [&](Tensors& tensors, Json&) { tensors.erase(up + ".weight_scale"); }},
      {"ct-w4a16", "but the configuration says INT4 in groups of 64",
       [](Tensors&, Json& config) {
         config["config_groups"]["group_0"]["weights"]["group_size"] = 64;
       }},
      {"ct-w4a16", "vLLM has no parameter",
       [&](Tensors& tensors, Json&) {
         tensors[up + ".scales"] = tensors.at(up + ".weight_scale");
       }},
      {"ct-fp8-static-kv", "vLLM would use 1.0",
       [](Tensors& tensors, Json&) {
         tensors.erase("model.layers.0.self_attn.k_scale");
         tensors.erase("model.layers.0.self_attn.v_scale");
       }},
      {"quark-mxfp4", "is not known to this build",
       [](Tensors&, Json& config) { config["global_quant_config"]["weight"]["dtype"] = "fp6"; }},
  };
  for (const Mistake& mistake : mistakes) {
    EXPECT_THAT(ErrorsAfter(mistake.folder, mistake.change), HasSubstr(mistake.message))
        << mistake.folder;
  }
}

// A block of any shape is a finding or nothing, never an exception.
TEST(SchemeInspection, BrokenConfigBlocksAreFindings) {
  if (SharedPath("golden/schemes").empty()) GTEST_SKIP() << "reference checkpoints are absent";
  for (
      const char* block :
      {R"({"quant_method": "compressed-tensors"})",
       R"({"quant_method": "compressed-tensors", "config_groups": {"group_0": 3}})",
       R"({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 3}}}})",
       R"({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8,
            "type": "float", "strategy": "channel"}, "targets": ["re:("]}}})",
       R"({"quant_method": "fp8", "weight_block_size": [0, 128]})",
       R"({"quant_method": "fp8", "weight_block_size": 128})",
       R"({"quant_method": "quark", "global_quant_config": {"weight": {"qscheme": "per_group",
            "dtype": "fp4"}}})"}) {
    EXPECT_NE(ErrorsAfter("ct-w4a16",
                          [&](Tensors&, Json& config) { config = ParseJson(block, "block"); }),
              "")
        << block;
  }
}

}  // namespace
}  // namespace narrow
