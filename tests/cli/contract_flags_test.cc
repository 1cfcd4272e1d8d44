// What the other flags of narrow quantize change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

class Flags : public testing::Test {
 protected:
  void SetUp() override { WriteTinyModel(model(), {}); }

  std::string model() const { return (scratch_.path() / "tiny").string(); }
  std::string output() const { return (scratch_.path() / "tiny-fp8").string(); }

  CommandResult Run(std::vector<std::string> more) const {
    return RunNarrow(QuantizeArguments(model(), output(), more));
  }
  void Quantize(std::vector<std::string> more) const {
    more.insert(more.end(), {"--skip_evaluation", "--overwrite"});
    const CommandResult result = Run(more);
    ASSERT_EQ(result.status, 0) << result.error;
  }
  // Refused before any work, with this in the message.
  void ExpectRefused(const std::vector<std::string>& more, const std::string& message,
                     int status = 2) const {
    const CommandResult result = Run(more);
    EXPECT_EQ(result.status, status) << result.error;
    EXPECT_THAT(result.LastErrorLine(), testing::StartsWith("narrow: "));
    EXPECT_THAT(result.LastErrorLine(), HasSubstr(message));
    EXPECT_THAT(Names(scratch_.path()), UnorderedElementsAre("tiny"));
  }

  ScratchDirectory scratch_;
};

TEST_F(Flags, ExistingOutputIsRefusedAndReplacedOnRequest) {
  Quantize({"--max_shard_size", "30KB"});
  const std::set<std::string> before = Names(output());
  const CommandResult result = Run({"--skip_evaluation"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("--overwrite"));
  EXPECT_EQ(Names(output()), before);
  EXPECT_THAT(Names(scratch_.path()), UnorderedElementsAre("tiny", "tiny-fp8"));
  EXPECT_FALSE(before.contains("model.safetensors"));
  Quantize({});
  EXPECT_FALSE(Names(output()).contains("model.safetensors.index.json"));
  EXPECT_TRUE(Names(output()).contains("model.safetensors"));
  EXPECT_THAT(Names(scratch_.path()), UnorderedElementsAre("tiny", "tiny-fp8"));
}

TEST_F(Flags, Shards) {
  Quantize({});
  const auto whole = ReadTensors(output());
  Quantize({"--max_shard_size", "20KB"});
  const Json index = ReadJsonFile(output() + "/model.safetensors.index.json");
  int64_t total = 0;
  for (const auto& [name, tensor] : whole) total += std::ssize(tensor.bytes);
  EXPECT_EQ(index["metadata"]["total_size"].get<int64_t>(), total);
  EXPECT_EQ(index["weight_map"].size(), whole.size());
  std::map<std::string, int64_t> bytes_of_file;
  for (const auto& [name, file] : index["weight_map"].items()) {
    bytes_of_file[file.get<std::string>()] += std::ssize(whole.at(name).bytes);
  }
  EXPECT_GT(bytes_of_file.size(), 5u);
  for (const auto& [file, bytes] : bytes_of_file) {
    EXPECT_THAT(file, testing::MatchesRegex(fmt::format("model-0000[0-9]-of-{:05}.safetensors",
                                                        bytes_of_file.size())));
    EXPECT_THAT(ReadFile(output() + "/" + file), HasSubstr(R"("__metadata__":{"format":"pt"})"));
    // The largest tensor alone, the embedding, is above the limit.
    EXPECT_LE(bytes, 258 * 64 * 2) << file;
  }
  for (const auto& [name, tensor] : ReadTensors(output())) {
    EXPECT_TRUE(tensor.bytes == whole.at(name).bytes) << name;
  }
  EXPECT_EQ(RunNarrow({"inspect", output()}).status, 0);
}

TEST_F(Flags, ExcludedLayersStayAsTheyAre) {
  Quantize({"--exclude_layers", "*.down_proj", "model.layers.1.self_attn.[qkv]_proj"});
  const auto source = ReadTensors(model());
  const auto tensors = ReadTensors(output());
  for (const std::string module :
       {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj",
        "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"}) {
    EXPECT_TRUE(tensors.at(module + ".weight").bytes == source.at(module + ".weight").bytes)
        << module;
    EXPECT_FALSE(tensors.contains(module + ".weight_scale")) << module;
    EXPECT_FALSE(tensors.contains(module + ".input_scale")) << module;
  }
  EXPECT_EQ(tensors.at("model.layers.0.self_attn.q_proj.weight").dtype, Dtype::kF8E4M3);
  const Json config = ReadJsonFile(output() + "/config.json")["quantization_config"];
  EXPECT_THAT(
      config["ignored_layers"].get<std::vector<std::string>>(),
      UnorderedElementsAre("lm_head", "model.layers.0.mlp.down_proj",
                           "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.q_proj",
                           "model.layers.1.self_attn.k_proj", "model.layers.1.self_attn.v_proj"));
  EXPECT_EQ(RunNarrow({"inspect", output()}).status, 0);
}

TEST_F(Flags, ExclusionsThatCannotBeMeantAreRefused) {
  ExpectRefused({"--exclude_layers", "*.dwn_proj"}, "matches no linear layer");
  ExpectRefused({"--exclude_layers", "*.q_proj"}, "exclude both or none");
}

TEST_F(Flags, SmallestCacheScale) {
  Quantize({"--head_basis", "none"});
  const auto before = ReadTensors(output());
  const float key = before.at("model.layers.0.self_attn.k_scale").Scalar();
  const float value = before.at("model.layers.0.self_attn.v_scale").Scalar();
  ASSERT_LT(value, key);
  const double minimum = (static_cast<double>(key) + value) / 2;
  Quantize({"--head_basis", "none", "--min_kv_scale", fmt::format("{}", minimum)});
  const auto after = ReadTensors(output());
  EXPECT_EQ(after.at("model.layers.0.self_attn.k_scale").Scalar(), key);
  EXPECT_EQ(after.at("model.layers.0.self_attn.v_scale").Scalar(), static_cast<float>(minimum));
  const Json config = ReadJsonFile(output() + "/config.json")["quantization_config"];
  EXPECT_NEAR(config["export"]["min_kv_scale"].get<double>(), minimum, 1e-8);
}

TEST_F(Flags, NumbersThatCannotBeMeantAreRefused) {
  for (const std::string value : {"nan", "inf", "-inf", "1e39", "-1", "-1e-9", "x", ""}) {
    ExpectRefused({"--min_kv_scale", value}, "--min_kv_scale");
  }
  for (const std::string flag : {"--save_interval", "--max_kl"}) {
    for (const std::string value : {"nan", "inf", "1e309", "-1"})
      ExpectRefused({flag, value}, flag);
  }
  for (const std::string flag : {"--eval_windows", "--attribution_windows", "--num_calib_data",
                                 "--seq_len", "--window_tokens", "--threads"}) {
    for (const std::string value : {"9223372036854775807", "99999999999999999999", "-1", "1.5"}) {
      ExpectRefused({flag, value}, flag);
    }
  }
}

TEST_F(Flags, SkipEvaluation) {
  Quantize({});
  const Json report = ReadJsonFile(output() + "/narrow-report.json");
  EXPECT_TRUE(report["evaluation"].is_null());
  EXPECT_TRUE(report["seconds"]["evaluation"].is_null());
  EXPECT_THAT(ReadFile(output() + "/README.md"), HasSubstr("No evaluation was made"));
}

TEST_F(Flags, SkipQuantizationOnlyEvaluates) {
  const CommandResult result = Run({"--skip_quantization", "--eval_windows", "2"});
  EXPECT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("perplexity "));
  EXPECT_THAT(Names(scratch_.path()), UnorderedElementsAre("tiny"));
  ExpectRefused({"--skip_quantization", "--skip_evaluation"}, "leave nothing to do");
}

TEST_F(Flags, CalibrationTakesTheFirstDocumentsCutToLength) {
  WriteFile(model() + "/texts.jsonl",
            "{\"text\": \"abcdefgh\"}\n{\"text\": \"xyz\"}\n{\"text\": \"" + std::string(500, 'q') +
                "\"}\n");
  Quantize({"--dataset", model() + "/texts.jsonl", "--num_calib_data", "2", "--seq_len", "6"});
  const Json calibration = ReadJsonFile(output() + "/narrow-report.json")["calibration"];
  EXPECT_EQ(calibration["samples"], 2);
  EXPECT_EQ(calibration["tokens"], 6 + 4);  // the begin token counts
  EXPECT_TRUE(calibration["notice"].is_null());
}

TEST_F(Flags, FlagsOfQuarkThatMakeNoSenseAreRefusedWithTheReason) {
  ExpectRefused({"--model_trust_remote_code"}, "never runs code of a checkpoint");
  ExpectRefused({"--tasks", "wikitext"}, "measures perplexity");
  ExpectRefused({"--group-size", "128"}, "groups come with --quant_scheme");
  ExpectRefused({"--model_reload"}, "keeps no intermediate format");
  ExpectRefused({"--multi_device"}, "one machine's memory");
}

TEST_F(Flags, ValuesThisBuildDoesNotKnowAreRefused) {
  ExpectRefused({"--device", "cuda"}, "--device cpu", 5);
  ExpectRefused({"--data_type", "float16"}, "float16", 5);
  ExpectRefused({"--model_export", "onnx"}, "hf_format", 5);
  ExpectRefused({"--quant_scheme", "w_int4_per_group_sym"}, "w_int4_per_group_sym");
  ExpectRefused({"--custom_mode", "awq"}, "awq", 5);
  ExpectRefused({"--kv_cache_dtype", "int8"}, "int8");
  ExpectRefused({"--max_shard_size", "tiny"}, "5GB");
}

}  // namespace
}  // namespace narrow
