// The command that makes the published checkpoints, word for word: what it leaves behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

class Contract : public testing::Test {
 protected:
  void SetUp() override { WriteTinyModel(model(), {}); }

  std::string model() const { return (scratch_.path() / "tiny").string(); }
  std::string output() const { return (scratch_.path() / "tiny-fp8").string(); }
  std::string File(const std::string& name) const { return ReadFile(output() + "/" + name); }
  Json JsonFile(const std::string& name) const { return ReadJsonFile(output() + "/" + name); }

  // The contract's command with more flags; it must succeed.
  void Quantize(const std::vector<std::string>& more = {}) {
    const CommandResult result = RunNarrow(QuantizeArguments(model(), output(), more));
    ASSERT_EQ(result.status, 0) << result.error;
    out_ = result.output;
  }

  ScratchDirectory scratch_;
  std::string out_;
};

TEST_F(Contract, DirectoryIsComplete) {
  Quantize();
  EXPECT_THAT(
      Names(output()),
      UnorderedElementsAre("config.json", "model.safetensors", "tokenizer.json",
                           "tokenizer_config.json", "generation_config.json", "LICENSE",
                           "README.md", "narrow-output.json", "narrow-report.json", "report.html"));
  EXPECT_THAT(Names(scratch_.path()), UnorderedElementsAre("tiny", "tiny-fp8"));
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "LICENSE"}) {
    EXPECT_EQ(File(name), ReadFile(model() + "/" + name)) << name;
  }
  const CommandResult inspection = RunNarrow({"inspect", output()});
  EXPECT_EQ(inspection.status, 0) << inspection.output << inspection.error;
  EXPECT_THAT(inspection.output, HasSubstr("no problems found"));
}

TEST_F(Contract, MultiGpuAndDashesChangeNothing) {
  Quantize({"--skip_evaluation"});
  const std::string weights = File("model.safetensors");
  const std::string config = File("config.json");
  std::vector<std::string> arguments =
      QuantizeArguments(model(), output(), {"--multi_gpu", "--overwrite", "--skip_evaluation"});
  CommandResult result = RunNarrow(arguments);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("CPU"));
  EXPECT_TRUE(File("model.safetensors") == weights);
  for (std::string& word : arguments) {
    if (word.starts_with("--")) std::replace(word.begin() + 2, word.end(), '_', '-');
  }
  result = RunNarrow(arguments);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_TRUE(File("model.safetensors") == weights);
  EXPECT_EQ(File("config.json"), config);
}

TEST_F(Contract, SpellingsOfTodayGiveTheSameBytes) {
  Quantize({"--skip_evaluation"});
  const std::string weights = File("model.safetensors");
  const CommandResult result =
      RunNarrow({"quantize", "--model_dir", model(), "--output_dir", output(), "--quant_scheme",
                 "fp8", "--kv_cache_dtype", "fp8", "--num_calib_data=128", "--model_export",
                 "hf_format", "--no_weight_matrix_merge", "--overwrite", "--skip_evaluation"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_TRUE(File("model.safetensors") == weights);
}

// Everything but the block of the quantization is the source's.
void ExpectConfig(const Json& config, const Json& source, const std::string& block) {
  Json rest = config;
  rest.erase("quantization_config");
  EXPECT_EQ(nlohmann::json(rest), nlohmann::json(source));
  EXPECT_EQ(nlohmann::json(config["quantization_config"]), nlohmann::json::parse(block));
}

TEST_F(Contract, ConfigInModeFp8) {
  Quantize({"--skip_evaluation"});
  ExpectConfig(JsonFile("config.json"), TinyConfig({}), R"({
    "activation_scheme": "static",
    "export": {"kv_cache_group": ["*k_proj", "*v_proj"], "min_kv_scale": 0.0,
               "pack_method": "reorder", "weight_format": "real_quantized",
               "weight_merge_groups": null},
    "ignored_layers": ["lm_head"],
    "kv_cache_scheme": "static",
    "quant_method": "fp8"})");
}

TEST_F(Contract, ConfigInModeFp8WithoutCacheAndWithSharedScales) {
  const CommandResult result = RunNarrow(
      {"quantize", "--model_dir", model(), "--output_dir", output(), "--skip_evaluation"});
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectConfig(JsonFile("config.json"), TinyConfig({}), R"({
    "activation_scheme": "static",
    "export": {"kv_cache_group": [], "min_kv_scale": 0.0,
               "pack_method": "reorder", "weight_format": "real_quantized",
               "weight_merge_groups": [["*up_proj", "*gate_proj"],
                                       ["*q_proj", "*k_proj", "*v_proj"]]},
    "ignored_layers": ["lm_head"],
    "kv_cache_scheme": null,
    "quant_method": "fp8"})");
}

TEST_F(Contract, ConfigInModeQuark) {
  Quantize({"--custom_mode", "quark", "--skip_evaluation"});
  const std::string spec = R"({"block_size": null, "ch_axis": null, "dtype": "fp8_e4m3",
    "enable_buffer_reuse": false, "group_size": null, "is_dynamic": false,
    "is_scale_quant": false, "max_input_numel": 4194304, "mx_element_dtype": null,
    "observer_cls": "PerTensorMinMaxObserver", "qscheme": "per_tensor",
    "round_method": "half_even", "scale_calculation_mode": null, "scale_format": null,
    "scale_type": "float", "symmetric": true, "zero_point_type": "int32"})";
  std::string cache_spec = spec;
  cache_spec.replace(cache_spec.find("\"float\""), 7, "null");
  const auto layer = [&](const std::string& outputs) {
    return R"({"bias": null, "input_tensors": )" + spec + R"(, "output_tensors": )" + outputs +
           R"(, "target_device": null, "weight": )" + spec + "}";
  };
  const std::string cache_layers =
      R"({"*k_proj": )" + layer(cache_spec) + R"(, "*v_proj": )" + layer(cache_spec) + "}";
  ExpectConfig(JsonFile("config.json"), TinyConfig({}), R"({
    "algo_config": null,
    "exclude": ["lm_head"],
    "export": {"kv_cache_group": ["*k_proj", "*v_proj"], "min_kv_scale": 0.0,
               "pack_method": "reorder", "weight_format": "real_quantized",
               "weight_merge_groups": null},
    "global_quant_config": )" + layer("null") + R"(,
    "kv_cache_post_rope": false,
    "kv_cache_quant_config": )" + cache_layers + R"(,
    "layer_quant_config": )" + cache_layers + R"(,
    "layer_type_quant_config": {},
    "quant_method": "quark", "quant_mode": "eager_mode", "softmax_quant_spec": null,
    "version": "0.13"})");
  const auto tensors = ReadTensors(output());
  EXPECT_TRUE(tensors.contains("model.layers.0.self_attn.k_proj.output_scale"));
  EXPECT_TRUE(tensors.contains("model.layers.1.self_attn.v_proj.output_scale"));
  EXPECT_TRUE(tensors.contains("model.layers.1.self_attn.q_proj.output_scale"));
  EXPECT_FALSE(tensors.contains("model.layers.0.self_attn.k_scale"));
  EXPECT_EQ(RunNarrow({"inspect", output()}).status, 0);
}

TEST_F(Contract, ModelCard) {
  Quantize({"--eval_windows", "2"});
  const std::string card = File("README.md");
  std::size_t position = 0;
  for (const char* heading : {"## Introduction", "## Quantization Strategy", "## Quick Start",
                              "## Deployment", "## Evaluation", "## License"}) {
    const std::size_t found = card.find(heading, position);
    ASSERT_NE(found, std::string::npos) << heading << " is missing or out of order in\n" << card;
    position = found;
  }
  EXPECT_THAT(card, HasSubstr("--quant_scheme w_fp8_a_fp8 --kv_cache_dtype fp8"));
  EXPECT_THAT(card, HasSubstr("vllm serve tiny-fp8 --kv-cache-dtype fp8"));
  EXPECT_THAT(card, HasSubstr("[LICENSE](LICENSE)"));
  EXPECT_THAT(card, HasSubstr("corpus built into narrow"));  // no data set was there
  const Json perplexity = JsonFile("narrow-report.json")["evaluation"]["perplexity"];
  EXPECT_THAT(card, HasSubstr(fmt::format("{:.4f}", perplexity["original"].get<double>())));
  EXPECT_THAT(card, HasSubstr(fmt::format("{:.4f}", perplexity["quantized"].get<double>())));
}

TEST_F(Contract, Report) {
  Quantize({"--eval_windows", "3", "--window_tokens", "512"});
  const Json report = JsonFile("narrow-report.json");
  const Json& evaluation = report["evaluation"];
  EXPECT_EQ(evaluation["dataset"], "builtin");
  EXPECT_EQ(evaluation["windows"], 3);
  EXPECT_EQ(evaluation["window_tokens"], 512);
  EXPECT_EQ(evaluation["tokens"], 3 * 512);
  EXPECT_THAT(evaluation["notice"].get<std::string>(), HasSubstr("wikitext2"));
  double sum = 0;
  for (const Json& nll : evaluation["window_nll"]["original"]) sum += nll.get<double>();
  EXPECT_NEAR(evaluation["perplexity"]["original"].get<double>(), std::exp(sum / 3), 1e-6);
  EXPECT_GT(evaluation["perplexity"]["quantized"].get<double>(), 1.0);
  for (const char* phase : {"total", "calibration", "quantization", "evaluation"}) {
    EXPECT_GT(report["seconds"][phase].get<double>(), 0.0) << phase;
  }
  EXPECT_GT(report["peak_rss_bytes"].get<int64_t>(), 1 << 20);
  EXPECT_EQ(report["calibration"]["dataset"], "builtin");
  const auto samples = report["calibration"]["samples"].get<int64_t>();
  EXPECT_GT(samples, 0);
  EXPECT_LE(report["calibration"]["tokens"].get<int64_t>(), samples * 512);
  EXPECT_EQ(report["weights"].size(), 14u);
  EXPECT_EQ(report["inputs"].size(), 14u);
  EXPECT_EQ(report["kv_cache"].size(), 2u);
  // The closing table says the same.
  EXPECT_THAT(out_,
              HasSubstr(fmt::format("{:.4f}", evaluation["perplexity"]["original"].get<double>())));
  EXPECT_THAT(out_, HasSubstr("3 windows of 512 tokens"));
}

// Every scale in the report is the one in the file.
TEST_F(Contract, ReportHoldsTheScalesOfTheFile) {
  Quantize({"--skip_evaluation", "--quant_algo", "none", "--head_basis", "none"});
  const Json report = JsonFile("narrow-report.json");
  auto tensors = ReadTensors(output());
  for (const Json& weight : report["weights"]) {
    const std::string name = weight["name"].get<std::string>();
    EXPECT_EQ(weight["scale"].get<float>(), tensors.at(name + "_scale").Scalar()) << name;
    EXPECT_EQ(weight["elements"].get<int64_t>(), std::ssize(tensors.at(name).bytes)) << name;
    EXPECT_EQ(weight["saturated"], 0) << name;  // the largest weight is the last code
  }
  for (const Json& input : report["inputs"]) {
    const std::string name = input["name"].get<std::string>();
    EXPECT_EQ(input["scale"].get<float>(), tensors.at(name + ".input_scale").Scalar()) << name;
    EXPECT_EQ(input["scale"].get<float>(), input["amax"].get<float>() / 448.0f) << name;
  }
  for (const Json& cache : report["kv_cache"]) {
    const std::string name = cache["name"].get<std::string>();
    EXPECT_EQ(cache["q"]["scale"].get<float>(), tensors.at(name + ".q_scale").Scalar()) << name;
    EXPECT_EQ(cache["k"]["scale"].get<float>(), tensors.at(name + ".k_scale").Scalar()) << name;
    EXPECT_EQ(cache["v"]["scale"].get<float>(), tensors.at(name + ".v_scale").Scalar()) << name;
    EXPECT_EQ(cache["k"]["scale"].get<float>(), cache["k"]["amax"].get<float>() / 448.0f) << name;
  }
}

}  // namespace
}  // namespace narrow
