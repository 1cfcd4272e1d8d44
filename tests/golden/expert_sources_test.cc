// Mixtures of experts as vendors publish them: FP8 in blocks, beside layers that predict further
// and inside multimodal models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <set>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "model/model_source.h"
#include "tensor/scalar_types.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/mean.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/test_names.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, StoredTensor>;

constexpr int64_t kBlock = 128;

// By the definition of the format, not by the program's own tables.
float NumberOfCode(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(8.0f + static_cast<float>(mantissa), exponent - 10);
  return code >= 128 ? -magnitude : magnitude;
}

uint16_t Bfloat16Bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

std::string BytesOf(const auto& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])};
}

// A matrix in blocks of 128 x 128, and the bf16 numbers it stands for.
struct Blocks {
  StoredTensor codes, scales, numbers;

  explicit Blocks(const StoredTensor& weight) {
    const std::vector<float> values = weight.Floats();
    const int64_t rows = weight.shape[0], columns = weight.shape[1];
    const int64_t across = (columns + kBlock - 1) / kBlock;
    std::vector<float> scale(static_cast<std::size_t>((rows + kBlock - 1) / kBlock * across));
    const auto of = [&](int64_t r, int64_t c) -> float& {
      return scale[static_cast<std::size_t>(r / kBlock * across + c / kBlock)];
    };
    for (int64_t i = 0; i < rows * columns; ++i) {
      float& block = of(i / columns, i % columns);
      block = std::max(block, std::abs(values[static_cast<std::size_t>(i)]) / 448.0f);
    }
    std::vector<uint8_t> code;
    std::vector<uint16_t> number;
    for (int64_t i = 0; i < rows * columns; ++i) {
      const float by = of(i / columns, i % columns);
      code.push_back(ToFloat8E4M3(values[static_cast<std::size_t>(i)] / by).bits);
      number.push_back(Bfloat16Bits(NumberOfCode(code.back()) * by));
    }
    codes = {Dtype::kF8E4M3, weight.shape, BytesOf(code)};
    scales = {Dtype::kF32, {(rows + kBlock - 1) / kBlock, across}, BytesOf(scale)};
    numbers = {Dtype::kBF16, weight.shape, BytesOf(number)};
  }
};

class ExpertSources : public testing::Test {
 protected:
  fs::path Path(const std::string& name) const { return scratch_.path() / name; }

  // A directory with the config and the tokenizer of a golden.
  void Make(const std::string& name, const std::string& golden, const Json& config,
            const Tensors& tensors) const {
    fs::create_directory(Path(name));
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
      fs::copy_file(fs::path(golden) / file, Path(name) / file);
    }
    WriteFile((Path(name) / "config.json").string(), config.dump());
    WriteTensors(Path(name), tensors);
  }

  CommandResult Quantize(const std::string& model, const std::string& output,
                         std::vector<std::string> flags = {}) const {
    flags.insert(flags.begin(),
                 {"quantize", "--model_dir", Path(model).string(), "--output_dir",
                  Path(output).string(), "--num_calib_data", "8", "--seq_len", "128", "--dataset",
                  "builtin", "--skip_evaluation", "--custom_mode", "fp8"});
    return RunNarrow(flags);
  }

  std::vector<double> Losses(const std::string& model, const std::string& golden) const {
    const std::string json = Path("e.json").string();
    const CommandResult result = EvaluateIds(
        Path(model).string(), ReadJsonFile(golden + "/reference.json")["tokens"], scratch_, json);
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(json)["window_nll"].get<std::vector<double>>();
  }

  ScratchDirectory scratch_;
};

TEST_F(ExpertSources, InFloat8BlocksAreTheirBfloat16Twin) {
  const std::string golden = SharedPath("golden/families/tiny-deepseek-v3");
  if (golden.empty()) GTEST_SKIP() << "the shared golden data is not there";
  const ModelSource source = OpenModel(golden, WeightState::kOriginal);
  Tensors blocks = ReadTensors(golden), twin = blocks;
  int64_t matrices = 0;
  for (const LayerSpec& layer : LayersOf(*source.family, source.config)) {
    for (const LinearSpec& linear : WithExperts(layer).linears) {
      const Blocks made(blocks.at(linear.weight()));
      blocks[linear.weight()] = made.codes;
      blocks[linear.weight() + "_scale_inv"] = made.scales;
      twin[linear.weight()] = made.numbers;
      ++matrices;
    }
  }
  EXPECT_GT(matrices, 3 * 8 * 3);
  const Json plain = ReadJsonFile(golden + "/config.json");
  Json stated = plain;
  stated["quantization_config"] = {{"quant_method", "fp8"},
                                   {"fmt", "e4m3"},
                                   {"activation_scheme", "dynamic"},
                                   {"weight_block_size", {kBlock, kBlock}}};
  Make("blocks", golden, stated, blocks);
  Make("twin", golden, plain, twin);
  for (const char* algorithm : {"none", "gptq"}) {
    const std::string a = std::string("of-blocks-") + algorithm,
                      b = std::string("of-twin-") + algorithm;
    const CommandResult first = Quantize("blocks", a, {"--quant_algo", algorithm});
    ASSERT_EQ(first.status, 0) << first.error;
    const CommandResult second = Quantize("twin", b, {"--quant_algo", algorithm});
    ASSERT_EQ(second.status, 0) << second.error;
    EXPECT_TRUE(ReadFile((Path(a) / "model.safetensors").string()) ==
                ReadFile((Path(b) / "model.safetensors").string()))
        << algorithm;
    EXPECT_EQ(ReadJsonFile((Path(a) / "config.json").string()),
              ReadJsonFile((Path(b) / "config.json").string()));
  }
  // Served, the blocks have inputs rounded to FP8, too, which sends some tokens to other experts.
  const std::vector<double> served = Losses("blocks", golden), exact = Losses("twin", golden);
  EXPECT_NE(served, exact);
  EXPECT_NEAR(Mean(served), Mean(exact), 0.05);
  // Weights in FP8 blocks are near those of transformers' losses.
  const auto original =
      ReadJsonFile(golden + "/reference.json")["window_nll"].get<std::vector<double>>();
  EXPECT_NEAR(Mean(exact), Mean(original), 0.02);
}

// What is not run is the same bytes, and on the list of what is not quantized.
class CopiedBeside : public ExpertSources, public testing::WithParamInterface<const char*> {};

TEST_P(CopiedBeside, LayersThatPredictFurther) {
  const std::string golden = SharedPath(std::string("golden/families/tiny-") + GetParam());
  if (golden.empty()) GTEST_SKIP() << "the shared golden data is not there";
  const Json config = ReadJsonFile(golden + "/config.json");
  const Json& text = config.contains("text_config") ? config["text_config"] : config;
  const int64_t layers = text["num_hidden_layers"];
  Tensors tensors = ReadTensors(golden);
  const std::string last = fmt::format("layers.{}.", layers - 1);
  std::set<std::string> modules, added;
  Tensors more;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t at = name.find(last);
    if (at == name.npos) continue;
    std::string further = name;
    if (std::string(GetParam()).starts_with("qwen")) {
      further = "mtp.layers.0." + name.substr(at + last.size());
    } else {
      further.replace(at, last.size(), fmt::format("layers.{}.", layers));
    }
    more[further] = tensor;
    std::ranges::rotate(more[further].bytes, more[further].bytes.begin() + 2);
    added.insert(further);
    if (further.ends_with(".weight") && tensor.shape.size() == 2) {
      modules.insert(further.substr(0, further.rfind('.')));
    }
  }
  ASSERT_GT(added.size(), 8u);
  tensors.insert(more.begin(), more.end());
  Json with = config;
  with[config.contains("text_config") ? "text_config" : "num_nextn_predict_layers"] =
      config.contains("text_config") ? config["text_config"] : Json(1);
  Make("model", golden, with, tensors);
  for (const char* scheme : {"fp8", "MXFP4"}) {
    const std::string output = std::string("output-") + scheme;
    const std::vector<std::string> flags = {"--quant_scheme", scheme, "--quant_algo", "none"};
    CommandResult done;
    if (std::string(scheme) == "fp8") {
      done = Quantize("model", output, flags);
    } else {
      done = RunNarrow({"quantize", "--model_dir", Path("model").string(), "--output_dir",
                        Path(output).string(), "--num_calib_data", "8", "--seq_len", "128",
                        "--dataset", "builtin", "--skip_evaluation", "--quant_scheme", scheme,
                        "--quant_algo", "none"});
    }
    ASSERT_EQ(done.status, 0) << done.error;
    const Tensors written = ReadTensors(Path(output));
    for (const std::string& name : added) {
      ASSERT_TRUE(written.contains(name)) << name;
      EXPECT_EQ(written.at(name).bytes, tensors.at(name).bytes) << name;
    }
    const Json block = ReadJsonFile((Path(output) / "config.json").string())["quantization_config"];
    const auto ignored = block[std::string(scheme) == "fp8" ? "ignored_layers" : "ignore"]
                             .get<std::set<std::string>>();
    for (const std::string& module : modules) EXPECT_TRUE(ignored.contains(module)) << module;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, CopiedBeside,
                         testing::Values("deepseek-v3", "glm4-moe", "qwen3-next", "qwen3-5-moe"),
                         NameOfModelTest);

}  // namespace
}  // namespace narrow
