// Quantized checkpoints as sources of other jobs: requantized in flight, and given scales of the KV
// cache.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "formats/quantized_weight.h"
#include "io/checkpoint_reader.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "tensor/scalar_types.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

std::string Bfloat16Bytes(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    const Bfloat16 stored = ToBfloat16(value);
    bytes.append(reinterpret_cast<const char*>(&stored), sizeof(stored));
  }
  return bytes;
}

// The checkpoint that someone would make first who cannot read codes.
void DequantizeTo(const fs::path& from, const fs::path& to) {
  const CheckpointReader checkpoint(from);
  auto tensors = ReadTensors(from);
  std::map<std::string, StoredTensor> plain;
  for (const auto& [name, tensor] : tensors) {
    if (name.find("_scale") == name.npos && tensor.dtype == Dtype::kBF16) plain[name] = tensor;
    for (const std::string leaf : {".weight", ".weight_packed"}) {
      if (!name.ends_with(leaf)) continue;
      const std::string module = name.substr(0, name.size() - leaf.size());
      const auto weight = QuantizedWeight::Open(checkpoint, module);
      if (!weight) continue;
      std::vector<float> values(static_cast<std::size_t>(weight->rows() * weight->columns()));
      weight->ReadRows(0, values);
      plain[module + ".weight"] = {
          Dtype::kBF16, {weight->rows(), weight->columns()}, Bfloat16Bytes(values)};
    }
  }
  fs::create_directory(to);
  WriteTensors(to, plain);
  Json config = ReadJsonFile((from / "config.json").string());
  config.erase("quantization_config");
  WriteFile(to / "config.json", config.dump());
}

class SchemeSources : public testing::Test {
 protected:
  void SetUp() override {
    base_ = SharedPath("golden/schemes");
    if (base_.empty()) GTEST_SKIP() << "reference checkpoints are absent";
    texts_ = ReadJsonFile((base_ / "calibration.json").string());
  }

  CommandResult Run(const std::vector<std::string>& given) const {
    std::vector<std::string> words = given;
    const std::vector<std::string> texts = {
        "--dataset",   PutIds(scratch_, "calibration.jsonl", texts_["calibration"]),
        "--eval_data", PutIds(scratch_, "windows.jsonl", texts_["windows"]),
        "--data_type", "float32"};
    words.insert(words.end(), texts.begin(), texts.end());
    return RunNarrow(words);
  }

  fs::path base_;
  Json texts_;
  ScratchDirectory scratch_;
};

TEST_F(SchemeSources, AreRequantizedInFlight) {
  for (const char* folder : {"fp8-block", "ct-fp8-dynamic", "ct-nvfp4", "ct-w4a16-asym"}) {
    const ScratchDirectory copy, work;
    CopyCheckpoint(base_ / folder, copy.path());
    DequantizeTo(copy.path(), work.path() / "plain");
    for (const std::string& source : {copy.path().string(), (work.path() / "plain").string()}) {
      const bool codes = source == copy.path().string();
      const CommandResult result =
          Run({"quantize", "--model_dir", source, "--output_dir",
               (work.path() / (codes ? "of_codes" : "of_numbers")).string(), "--quant_scheme",
               "MXFP4", "--exclude_layers", "*.layers.1.mlp.down_proj"});
      ASSERT_EQ(result.status, 0) << folder << result.error;
    }
    const auto of_codes = ReadTensors(work.path() / "of_codes");
    const auto of_numbers = ReadTensors(work.path() / "of_numbers");
    ASSERT_EQ(of_codes.size(), of_numbers.size()) << folder;
    for (const auto& [name, tensor] : of_numbers) {
      ASSERT_TRUE(of_codes.contains(name)) << name;
      EXPECT_TRUE(of_codes.at(name).bytes == tensor.bytes) << folder << ' ' << name;
    }
    EXPECT_EQ(ReadJsonFile((work.path() / "of_codes/config.json").string()),
              ReadJsonFile((work.path() / "of_numbers/config.json").string()));
  }
}

TEST_F(SchemeSources, GetScalesOfTheCache) {
  const ScratchDirectory copy, golden;
  CopyCheckpoint(base_ / "ct-fp8-dynamic", copy.path());
  CopyCheckpoint(base_ / "ct-fp8-dynamic-kv-head", golden.path());
  const fs::path output = scratch_.path() / "out";
  const CommandResult result =
      Run({"calibrate-kv", "--model_dir", copy.path().string(), "--output_dir", output.string(),
           "--num_calib_data", "4", "--kv_scales", "attn_head", "--link_weights"});
  ASSERT_EQ(result.status, 0) << result.error;
  const auto expected = ReadTensors(golden.path()), made = ReadTensors(output);
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(made.contains(name)) << name;
    EXPECT_EQ(made.at(name).shape, tensor.shape) << name;
    if (!name.ends_with(".k_scale") && !name.ends_with(".v_scale")) {
      EXPECT_TRUE(made.at(name).bytes == tensor.bytes) << name;
      continue;
    }
    // The tool's are of the unquantized network.
    const std::vector<float> values = made.at(name).Floats(), wanted = tensor.Floats();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_NEAR(values[i], wanted[i], 0.05f * wanted[i]) << name;
    }
  }
  const auto block = [](const fs::path& directory) {
    return ReadJsonFile((directory / "config.json").string()).at("quantization_config");
  };
  EXPECT_EQ(nlohmann::json(block(output)), nlohmann::json(block(golden.path())));
  // A link is the one file of the output that is not its own.
  EXPECT_EQ(fs::hard_link_count(copy.path() / "model-codes.safetensors"), 2u);
  // The loss that was measured is the one of what was written.
  const std::string json = (scratch_.path() / "figures.json").string();
  const CommandResult evaluated =
      EvaluateIds(output.string(), texts_["windows"], scratch_, json, {"--attention", "bf16"});
  ASSERT_EQ(evaluated.status, 0) << evaluated.error;
  const Json report = ReadJsonFile((output / "narrow-report.json").string());
  EXPECT_NEAR(ReadJsonFile(json).at("perplexity").get<double>(),
              report.at("caches").at("a scale per head").at("perplexity").get<double>(), 1e-2);
  const CommandResult again = Run({"calibrate-kv", "--model_dir", output.string(), "--output_dir",
                                   (scratch_.path() / "again").string()});
  EXPECT_EQ(again.status, 5) << again.error;
}

}  // namespace
}  // namespace narrow
