// Checkpoints of other tools read back: the losses of their weights alone are those of the
// reference (compressed-tensors' own dequantization, float32 forward).
#include "formats/quantized_weight.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "schemes/scheme_presets.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolders[] = {"ct-fp8-static",       "ct-fp8-dynamic",
                                    "ct-fp8-block",        "fp8-block",
                                    "ct-int8-dynamic",     "ct-int8-static",
                                    "ct-int8-static-asym", "ct-w4a16",
                                    "ct-w4a16-asym",       "ct-mxfp4",
                                    "ct-mxfp4a16",         "ct-nvfp4",
                                    "ct-nvfp4a16",         "quark-ptpc-fp8",
                                    "quark-mxfp4",         "quark-mxfp4-weight-only",
                                    "ct-fp8-static-kv",    "ct-fp8-dynamic-kv-head",
                                    "ragged/ct-fp8-block", "ragged/ct-mxfp4",
                                    "ragged/ct-mxfp8",     "ragged/ct-nvfp4",
                                    "ragged/quark-mxfp4"};

// An F32 checkpoint of what a quantized one holds.
void Dequantize(const fs::path& from, const fs::path& to) {
  const CheckpointReader checkpoint(from);
  std::map<std::string, StoredTensor> tensors;
  for (auto& [name, tensor] : ReadTensors(from)) {
    if (!Info(tensor.dtype).floating || tensor.dtype == Dtype::kF8E4M3 ||
        name.find("_scale") != name.npos) {
      continue;
    }
    const std::vector<float> values = tensor.Floats();
    tensors[name] = {Dtype::kF32, tensor.shape,
                     std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size())};
  }
  for (const auto& location : checkpoint.tensors()) {
    const std::string& name = location.entry.name;
    for (const char* leaf : {".weight", ".weight_packed"}) {
      if (!name.ends_with(leaf)) continue;
      const std::string module = name.substr(0, name.size() - std::string_view(leaf).size());
      const auto weight = QuantizedWeight::Open(checkpoint, module);
      if (!weight) continue;
      std::vector<float> values(static_cast<std::size_t>(weight->rows() * weight->columns()));
      // In two parts, as a reader with little memory would.
      const int64_t half = weight->rows() / 2;
      const auto split = static_cast<std::ptrdiff_t>(half * weight->columns());
      weight->ReadRows(0, std::span(values).first(static_cast<std::size_t>(split)));
      weight->ReadRows(half, std::span(values).subspan(static_cast<std::size_t>(split)));
      tensors[module + ".weight"] = {
          Dtype::kF32,
          {weight->rows(), weight->columns()},
          std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size())};
    }
  }
  fs::create_directory(to);
  WriteTensors(to, tensors);
  Json config = ReadJsonFile((from / "config.json").string());
  config.erase("quantization_config");
  config["dtype"] = "float32";
  WriteFile(to / "config.json", config.dump());
}

class QuantizedGoldens : public testing::TestWithParam<const char*> {};

TEST_P(QuantizedGoldens, LossesOfTheWeightsAlone) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const ScratchDirectory scratch, copy;
  CopyCheckpoint(base / GetParam(), copy.path());
  Dequantize(copy.path(), scratch.path() / "model");
  const Json windows = ReadJsonFile((base / "calibration.json").string()).at("windows");
  const std::string json = (scratch.path() / "figures.json").string();
  const CommandResult result =
      EvaluateIds((scratch.path() / "model").string(), windows, scratch, json);
  ASSERT_EQ(result.status, 0) << result.error;
  const Json figures = ReadJsonFile(json);
  const Json expected = ReadJsonFile((copy.path() / "reference.json").string())
                            .at("window_losses")
                            .at("weights_only")
                            .at("windows");
  const Json& losses = figures.at("window_nll");
  ASSERT_EQ(losses.size(), expected.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    EXPECT_NEAR(losses[i].get<double>(), expected[i].get<double>(), 1e-5) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, QuantizedGoldens, testing::ValuesIn(kFolders),
                         [](const testing::TestParamInfo<const char*>& folder) {
                           return FolderAsName(folder.param);
                         });

// Which scheme it is follows from the tensors.
TEST(QuantizedWeight, SchemeFollowsFromTheTensors) {
  const fs::path base = SharedPath("golden/schemes");
  if (base.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  for (const auto& [folder, scheme] :
       std::map<std::string, std::string>{{"ct-fp8-static", "fp8"},
                                          {"ct-fp8-dynamic", "FP8_DYNAMIC"},
                                          {"fp8-block", "FP8_BLOCK"},
                                          {"ct-int8-dynamic", "W8A8"},
                                          {"ct-w4a16", "W4A16"},
                                          {"ct-w4a16-asym", "W4A16_ASYM"},
                                          {"quark-mxfp4", "MXFP4"},
                                          {"ragged/ct-mxfp8", "MXFP8"},
                                          {"ct-nvfp4", "NVFP4"}}) {
    const ScratchDirectory copy;
    CopyCheckpoint(base / folder, copy.path());
    const CheckpointReader checkpoint(copy.path());
    const auto weight = QuantizedWeight::Open(checkpoint, "model.layers.0.mlp.down_proj");
    ASSERT_TRUE(weight) << folder;
    EXPECT_EQ(weight->scheme(), GetSchemePreset(scheme).scheme.weight) << folder;
    EXPECT_FALSE(QuantizedWeight::Open(checkpoint, "model.embed_tokens"));
    EXPECT_FALSE(QuantizedWeight::Open(checkpoint, "model.layers.0.mlp"));
  }
}

// Tensors that do not fit each other are refused by name.
TEST(QuantizedWeight, DamagedTensorsAreRefused) {
  const auto refuse = [](const std::vector<TinyTensor>& tensors, const std::string& message,
                         ErrorCode code = ErrorCode::kCorruptInput) {
    const ScratchDirectory scratch;
    WriteFile(scratch.path() / "config.json", "{}");
    WriteWeights(scratch.path(), tensors, 1);
    const CheckpointReader checkpoint(scratch.path());
    ExpectError(code, message, [&] { QuantizedWeight::Open(checkpoint, "m"); });
  };
  const auto zeros = [](const std::string& name, Dtype type, const Shape& shape) {
    int64_t bytes = ElementBytes(type);
    for (const int64_t size : shape) bytes *= size;
    return TinyTensor{"m." + name, type, shape, std::string(static_cast<std::size_t>(bytes), '\0')};
  };
  const TinyTensor fp8 = zeros("weight", Dtype::kF8E4M3, {32, 64});
  refuse({fp8}, "has no weight_scale");
  refuse({fp8, zeros("weight_scale", Dtype::kF32, {3, 2})}, "expected one scale");
  refuse({fp8, zeros("weight_scale", Dtype::kU8, {32, 3})}, "expected groups");
  refuse({fp8, zeros("weight_scale", Dtype::kI64, {32})}, "scales of type",
         ErrorCode::kUnsupported);
  refuse({zeros("weight", Dtype::kF8E4M3, {2, 2, 2})}, "two dimensions");
  refuse({zeros("weight", Dtype::kI32, {64, 4})}, "does not read", ErrorCode::kUnsupported);
  const TinyTensor fp4 = zeros("weight_packed", Dtype::kU8, {32, 32});
  refuse({fp4, zeros("weight_scale", Dtype::kF8E4M3, {32, 4})}, "has no weight_scale_2");
  const TinyTensor int4 = zeros("weight_packed", Dtype::kI32, {32, 16});
  refuse({int4, zeros("weight_scale", Dtype::kBF16, {32, 1}),
          zeros("weight_zero_point", Dtype::kI32, {5, 1})},
         "expected I32 [4, 1]");
}

}  // namespace
}  // namespace narrow
