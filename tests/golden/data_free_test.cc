// Whole checkpoints from the weights alone, beside those of the tools (../shared/golden/schemes).
#include "jobs/data_free.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/shared_data.h"
#include "tests/support/stored_tensors.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

// A copy of a source checkpoint, whose files may be the texts of links.
class Source {
 public:
  explicit Source(const std::string& folder) {
    if (SharedPath("golden/schemes").empty()) return;
    CopyCheckpoint(fs::path(SharedPath("golden/schemes")) / folder, copy_.path());
  }
  const fs::path& path() const { return copy_.path(); }

 private:
  ScratchDirectory copy_;
};

DataFreeRequest Request(const fs::path& model, const fs::path& output, const std::string& scheme,
                        const std::string& format = "") {
  DataFreeRequest request;
  request.job.model_directory = model;
  request.job.output_directory = output;
  request.recipe = RecipeOfScheme(scheme);
  request.format = format;
  return request;
}

struct Tool {
  const char* folder;
  const char* scheme;
  const char* format;
  const char* source = "source";
};

constexpr Tool kTools[] = {
    {"ct-fp8-dynamic", "FP8_DYNAMIC", "compressed-tensors"},
    {"ct-fp8-block", "fp8_block", "compressed-tensors"},
    {"fp8-block", "FP8_BLOCK", "fp8"},
    {"ct-int8-dynamic", "W8A8", "compressed-tensors"},
    {"ct-w4a16", "W4A16", "compressed-tensors"},
    {"ct-w4a16-asym", "W4A16_ASYM", "compressed-tensors"},
    {"ct-mxfp4", "mxfp4", "compressed-tensors"},
    {"ct-mxfp4a16", "MXFP4A16", "compressed-tensors"},
    {"ct-nvfp4a16", "NVFP4A16", "compressed-tensors"},
    {"quark-ptpc-fp8", "ptpc_fp8", "quark"},
    {"quark-mxfp4", "mxfp4", "quark"},
    {"quark-mxfp4-weight-only", "MXFP4A16", "quark"},
    {"ragged/ct-mxfp4", "MXFP4", "compressed-tensors", "source-ragged"},
    {"ragged/ct-mxfp8", "mxfp8", "compressed-tensors", "source-ragged"},
    {"ragged/quark-mxfp4", "MXFP4", "quark", "source-ragged"},
};

class DataFreeGoldens : public testing::TestWithParam<Tool> {};

TEST_P(DataFreeGoldens, CheckpointIsThatOfTheTool) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const Tool& tool = GetParam();
  const ScratchDirectory scratch, golden;
  CopyCheckpoint(base / tool.folder, golden.path());
  SilentProgress silent;
  const fs::path output = scratch.path() / "out";
  const Source source(tool.source);
  RunDataFree(Request(source.path(), output, tool.scheme, tool.format), silent);
  const auto expected = ReadTensors(golden.path()), made = ReadTensors(output);
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(made.contains(name)) << name;
    EXPECT_EQ(Name(made.at(name).dtype), Name(tensor.dtype)) << name;
    EXPECT_EQ(made.at(name).shape, tensor.shape) << name;
    EXPECT_TRUE(made.at(name).bytes == tensor.bytes) << name;
  }
  EXPECT_EQ(made.size(), expected.size());
  // Members that transformers adds to the block of `fp8` say nothing to a loader.
  const Json config = ReadJsonFile((output / "config.json").string()).at("quantization_config");
  const Json wanted =
      ReadJsonFile((golden.path() / "config.json").string()).at("quantization_config");
  for (const auto& [key, value] : config.items()) {
    EXPECT_EQ(nlohmann::json(value), nlohmann::json(wanted.at(key))) << key;
  }
  EXPECT_TRUE(config.size() == wanted.size() || std::string_view(tool.format) == "fp8");
}

INSTANTIATE_TEST_SUITE_P(Folders, DataFreeGoldens, testing::ValuesIn(kTools),
                         [](const testing::TestParamInfo<Tool>& golden) {
                           return FolderAsName(golden.param.folder);
                         });

// vLLM refuses blocks that begin inside of a part of a fused matrix; the others have the tool's
// bytes.
TEST(DataFree, BlocksThatSplitAFusedMatrixStay) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const ScratchDirectory scratch, golden;
  CopyCheckpoint(base / "ragged/ct-fp8-block", golden.path());
  SilentProgress silent;
  const Source source("source-ragged");
  const DataFreeResult result =
      RunDataFree(Request(source.path(), scratch.path() / "out", "FP8_BLOCK"), silent);
  EXPECT_EQ(result.quantized, 2);  // o_proj and down_proj
  EXPECT_EQ(result.warnings.size(), 1u);
  const auto expected = ReadTensors(golden.path()), made = ReadTensors(scratch.path() / "out");
  for (const char* module : {"self_attn.o_proj", "mlp.down_proj"}) {
    for (const char* part : {"weight", "weight_scale"}) {
      const std::string name = fmt::format("model.layers.0.{}.{}", module, part);
      EXPECT_TRUE(made.at(name).bytes == expected.at(name).bytes) << name;
    }
  }
  EXPECT_EQ(made.at("model.layers.0.self_attn.q_proj.weight").dtype, Dtype::kBF16);
  const Json config =
      ReadJsonFile((scratch.path() / "out/config.json").string()).at("quantization_config");
  EXPECT_EQ(config.at("ignore").size(), 6u);  // q, k, v, gate, up and the head
}

// The codes differ from the default's as often as double rounding does, the scales do not.
TEST(DataFree, ExactQuotientRoundsCodesOnce) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const ScratchDirectory scratch;
  const Source source("source");
  SilentProgress silent;
  DataFreeRequest request = Request(source.path(), scratch.path() / "twice", "FP8_DYNAMIC");
  RunDataFree(request, silent);
  request.job.output_directory = scratch.path() / "once";
  request.exact_quotient = true;
  RunDataFree(request, silent);
  const auto twice = ReadTensors(scratch.path() / "twice");
  const auto once = ReadTensors(scratch.path() / "once");
  int64_t codes = 0, differ = 0;
  for (const auto& [name, tensor] : twice) {
    if (tensor.dtype != Dtype::kF8E4M3) {
      EXPECT_TRUE(once.at(name).bytes == tensor.bytes) << name;
      continue;
    }
    codes += static_cast<int64_t>(tensor.bytes.size());
    for (std::size_t i = 0; i < tensor.bytes.size(); ++i) {
      differ += tensor.bytes[i] != once.at(name).bytes[i];
    }
  }
  // 2.9 % of the codes by the reference's own count.
  EXPECT_NEAR(static_cast<double>(differ) / static_cast<double>(codes), 0.029, 0.001);
}

// What is quantized does not depend on the pieces that are read at a time, nor on the shards.
TEST(DataFree, ShardsDoNotMatter) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const ScratchDirectory scratch;
  const Source source("source");
  SilentProgress silent;
  DataFreeRequest request = Request(source.path(), scratch.path() / "one", "NVFP4A16");
  RunDataFree(request, silent);
  request.job.output_directory = scratch.path() / "many";
  request.job.max_shard_bytes = 200'000;
  RunDataFree(request, silent);
  const auto one = ReadTensors(scratch.path() / "one");
  const auto many = ReadTensors(scratch.path() / "many");
  ASSERT_EQ(one.size(), many.size());
  for (const auto& [name, tensor] : one) EXPECT_TRUE(many.at(name).bytes == tensor.bytes) << name;
  EXPECT_GT(Names(scratch.path() / "many").size(), Names(scratch.path() / "one").size() + 4);
}

}  // namespace
}  // namespace narrow
