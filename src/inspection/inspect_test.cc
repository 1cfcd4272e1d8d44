#include "inspection/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/checkpoint_writer.h"
#include "io/json.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

// A quantized two-layer Llama that vLLM would load; the cases change one thing each.
struct Model {
  Json config;
  std::map<std::string, TensorSpec> tensors;
  std::map<std::string, float> scales;  // F32 values of the scalar scales

  void Put(const std::string& name, Dtype dtype, Shape shape) {
    tensors[name] = {name, dtype, std::move(shape)};
  }
  void PutScale(const std::string& name, float value) {
    Put(name, Dtype::kF32, {});
    scales[name] = value;
  }
  void Remove(const std::string& name) {
    ASSERT_EQ(tensors.erase(name), 1u) << name;
    scales.erase(name);
  }
  Json& quantization() { return config["quantization_config"]; }
};

constexpr std::string_view kLinears[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                         "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                         "mlp.down_proj"};

Shape LinearShape(std::string_view module) {
  if (module == "self_attn.k_proj" || module == "self_attn.v_proj") return {4, 8};
  if (module == "mlp.gate_proj" || module == "mlp.up_proj") return {12, 8};
  if (module == "mlp.down_proj") return {8, 12};
  return {8, 8};
}

Model GoodModel() {
  Model model;
  model.config = ParseJson(R"({
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "vocab_size": 16,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
    "quantization_config": {"quant_method": "fp8", "activation_scheme": "static",
                            "kv_cache_scheme": "static", "ignored_layers": ["lm_head"]}})",
                           "config");
  model.Put("model.embed_tokens.weight", Dtype::kBF16, {16, 8});
  model.Put("model.norm.weight", Dtype::kBF16, {8});
  model.Put("lm_head.weight", Dtype::kBF16, {16, 8});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    model.Put(layer + "input_layernorm.weight", Dtype::kBF16, {8});
    model.Put(layer + "post_attention_layernorm.weight", Dtype::kBF16, {8});
    for (const std::string_view module : kLinears) {
      const std::string name = layer + std::string(module);
      model.Put(name + ".weight", Dtype::kF8E4M3, LinearShape(module));
      model.PutScale(name + ".weight_scale", 0.5f);
      model.PutScale(name + ".input_scale", 0.25f);
    }
    model.PutScale(layer + "self_attn.q_scale", 0.125f);
    model.PutScale(layer + "self_attn.k_scale", 0.125f);
    model.PutScale(layer + "self_attn.v_scale", 0.125f);
  }
  return model;
}

void WriteModel(const Model& model, const ScratchDirectory& scratch, int64_t max_shard_bytes) {
  scratch.Put("config.json", model.config.dump());
  scratch.Put("tokenizer.json", "{}");
  scratch.Put("tokenizer_config.json", "{}");
  std::vector<TensorSpec> specs;
  for (const auto& [name, spec] : model.tensors) specs.push_back(spec);
  CheckpointWriter writer(scratch.path(), PlanShards(specs, max_shard_bytes));
  for (const TensorSpec& spec : specs) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(spec.bytes()));
    const auto scale = model.scales.find(spec.name);
    if (scale != model.scales.end() && spec.dtype == Dtype::kF32 && bytes.size() == 4) {
      std::memcpy(bytes.data(), &scale->second, 4);
    }
    writer.Write(spec.name, bytes);
  }
  writer.Finish();
}

std::vector<std::string> Problems(const Model& model) {
  const ScratchDirectory scratch;
  WriteModel(model, scratch, 1 << 20);
  std::vector<std::string> texts;
  for (const Finding& finding : Inspect(scratch.path()).problems) {
    texts.push_back((finding.severity == Severity::kError ? "error: " : "warning: ") +
                    finding.text);
  }
  return texts;
}

TEST(Inspect, AGoodCheckpointHasNoProblems) {
  const ScratchDirectory scratch;
  WriteModel(GoodModel(), scratch, 400);
  const InspectionReport report = Inspect(scratch.path());
  for (const Finding& finding : report.problems) ADD_FAILURE() << finding.text;
  EXPECT_FALSE(report.HasErrors());
  EXPECT_EQ(report.model_type, "llama");
  EXPECT_EQ(report.quant_method, "fp8");
  EXPECT_GT(report.files, 1);
  EXPECT_EQ(report.tensors.size(), 3u + 2 * 26);
  const InspectedTensor& scale = report.tensors[3];
  EXPECT_EQ(scale.name, "model.layers.0.mlp.down_proj.input_scale");
  EXPECT_EQ(scale.scale, std::vector<float>{0.25f});
  ASSERT_EQ(report.totals.size(), 3u);
  EXPECT_EQ(report.totals[0].dtype, Dtype::kF8E4M3);
  EXPECT_EQ(report.totals[0].tensors, 14);
  EXPECT_EQ(report.totals[0].bytes, 2 * (64 + 32 + 32 + 64 + 3 * 96));
  EXPECT_EQ(report.totals[1].elements, 2 * 128 + 8 + 2 * 16);
  EXPECT_EQ(report.totals[2].tensors, 2 * 17);
  EXPECT_EQ(report.bytes, report.totals[0].bytes + report.totals[1].bytes + report.totals[2].bytes);
}

struct Case {
  const char* name;
  std::function<void(Model&)> change;
  const char* problem;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const std::string kQ = "model.layers.0.self_attn.q_proj";

const Case kCases[] = {
    {"MissingWeightScale", [](Model& m) { m.Remove(kQ + ".weight_scale"); },
     "error: FP8 weight \"model.layers.0.self_attn.q_proj.weight\" has no weight_scale"},
    {"MissingInputScale", [](Model& m) { m.Remove(kQ + ".input_scale"); },
     "error: FP8 weight \"model.layers.0.self_attn.q_proj.weight\" has no input_scale"},
    {"ZeroScale", [](Model& m) { m.scales[kQ + ".weight_scale"] = 0; },
     "q_proj.weight_scale\" is 0"},
    {"NegativeScale", [](Model& m) { m.scales[kQ + ".input_scale"] = -1; }, "is -1, expected"},
    {"NanScale", [](Model& m) { m.scales[kQ + ".input_scale"] = std::nanf(""); }, "is nan"},
    {"InfiniteScale",
     [](Model& m) {
       m.scales["model.layers.1.self_attn.k_scale"] = std::numeric_limits<float>::infinity();
     },
     "is inf"},
    {"VectorScale", [](Model& m) { m.Put(kQ + ".weight_scale", Dtype::kF32, {8}); },
     "has 8 elements"},
    {"IntegerScale", [](Model& m) { m.Put(kQ + ".weight_scale", Dtype::kI32, {}); },
     "expected a floating type"},
    {"ScaleWithoutFp8", [](Model& m) { m.PutScale("model.norm.weight_scale", 1); },
     "belongs to no F8_E4M3"},
    {"NoKvScales",
     [](Model& m) {
       for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
         m.Remove(layer + "self_attn.k_scale");
         m.Remove(layer + "self_attn.v_scale");
       }
     },
     "error: model.layers.1.self_attn has no K and V scales although the configuration promises"},
    {"KWithoutV", [](Model& m) { m.Remove("model.layers.0.self_attn.v_scale"); },
     "error: model.layers.0.self_attn has a K scale but no V scale"},
    {"KvScalesInOneLayer",
     [](Model& m) {
       m.quantization()["kv_cache_scheme"] = nullptr;
       m.Remove("model.layers.0.self_attn.k_scale");
       m.Remove("model.layers.0.self_attn.v_scale");
     },
     "although other layers do"},
    {"OldKvScale", [](Model& m) { m.PutScale("model.layers.0.self_attn.kv_scale", 1); },
     "warning: model.layers.0.self_attn.kv_scale is deprecated"},
    {"TwoScalesForK", [](Model& m) { m.PutScale("model.layers.0.self_attn.kv_scale", 1); },
     "error: model.layers.0.self_attn has a kv_scale and another scale for K"},
    {"MissingTensor", [](Model& m) { m.Remove("model.norm.weight"); },
     "error: tensor model.norm.weight is missing"},
    {"MissingHead", [](Model& m) { m.Remove("lm_head.weight"); }, "lm_head.weight is missing"},
    {"WrongShape", [](Model& m) { m.Put("model.norm.weight", Dtype::kBF16, {9}); },
     "error: tensor model.norm.weight has shape [9], config.json makes it [8]"},
    {"UnknownTensor",
     [](Model& m) { m.Put("model.layers.0.self_attn.q_norm.weight", Dtype::kBF16, {8}); },
     "error: unknown tensor \"model.layers.0.self_attn.q_norm.weight\""},
    {"LayerTooMany",
     [](Model& m) {
       m.Put("model.layers.2.mlp.up_proj.weight", Dtype::kBF16, {12, 8});
     },
     "error: unknown tensor \"model.layers.2.mlp.up_proj.weight\""},
    {"ScalingFactor", [](Model& m) { m.PutScale(kQ + ".weights_scaling_factor", 1); },
     "error: unknown tensor"},
    {"UnpromisedBias", [](Model& m) { m.Put(kQ + ".bias", Dtype::kBF16, {8}); },
     "warning: tensor \"model.layers.0.self_attn.q_proj.bias\" is ignored by vLLM"},
    {"MissingBias", [](Model& m) { m.config["mlp_bias"] = true; },
     "error: tensor model.layers.0.mlp.gate_proj.bias is missing"},
    {"NoScheme", [](Model& m) { m.quantization().erase("activation_scheme"); },
     "error: quantization_config: activation_scheme is missing"},
    {"OddScheme", [](Model& m) { m.quantization()["activation_scheme"] = "weird"; },
     "activation_scheme is \"weird\""},
    {"BlockSize",
     [](Model& m) {
       m.quantization()["weight_block_size"] = {128, 128};
     },
     "is FP8 per tensor, but the configuration says FP8 in blocks of 128 x 128"},
    {"Glob", [](Model& m) { m.quantization()["ignored_layers"].push_back("*.gate"); },
     "warning: quantization_config: ignored_layers holds the pattern \"*.gate\""},
    {"IgnoredNotStrings", [](Model& m) { m.quantization()["ignored_layers"].push_back(1); },
     "not a string"},
    {"IgnoredUnknown",
     [](Model& m) { m.quantization()["ignored_layers"].push_back("model.layers.9.mlp.up_proj"); },
     "warning: \"model.layers.9.mlp.up_proj\" is listed as unquantized, but"},
    {"PartlyIgnored", [](Model& m) { m.quantization()["ignored_layers"].push_back(kQ); },
     "error: model.layers.0.self_attn.qkv_proj: 1 of 3 parts are listed"},
    {"IgnoredFp8",
     [](Model& m) {
       m.quantization()["ignored_layers"].push_back("model.layers.0.mlp.gate_up_proj");
     },
     "error: model.layers.0.mlp.up_proj is FP8, but the configuration lists it"},
    {"UnlistedBf16",
     [](Model& m) {
       m.Put("model.layers.0.mlp.down_proj.weight", Dtype::kBF16, {8, 12});
       m.Remove("model.layers.0.mlp.down_proj.weight_scale");
       m.Remove("model.layers.0.mlp.down_proj.input_scale");
     },
     "error: model.layers.0.mlp.down_proj is BF16, but the configuration does not list it"},
    {"Fp8Head",
     [](Model& m) {
       m.Put("lm_head.weight", Dtype::kF8E4M3, {16, 8});
     },
     "lm_head is FP8"},
    {"E5M2",
     [](Model& m) {
       m.Put(kQ + ".weight", Dtype::kF8E5M2, {8, 8});
     },
     "is F8_E5M2"},
    {"NoQuantizationConfig", [](Model& m) { m.config.erase("quantization_config"); },
     "but config.json has no quantization_config"},
    {"QuarkWithoutExport",
     [](Model& m) {
       m.config["quantization_config"] = {{"quant_method", "quark"}};
     },
     "error: quantization_config: export is missing"},
    {"ManyLayers", [](Model& m) { m.config["num_hidden_layers"] = int64_t{1} << 30; },
     "expected 1 to 4096"},
    {"NoHiddenSize", [](Model& m) { m.config.erase("hidden_size"); }, "\"hidden_size\" is missing"},
    {"NoHeads", [](Model& m) { m.config["num_attention_heads"] = 0; },
     "num_attention_heads\" is 0"},
    {"OtherFamily", [](Model& m) { m.config["model_type"] = "mamba"; },
     "warning: not a model family this build knows"},
    {"ConfigOfAnotherType", [](Model& m) { m.config["quantization_config"] = 7; },
     "\"quantization_config\" should be an object"},
    {"ModelTypeOfAnotherType", [](Model& m) { m.config["model_type"] = 7; },
     "\"model_type\" should be a string"},
    {"OtherMethod",
     [](Model& m) {
       m.config["quantization_config"] = {{"quant_method", "awq"}};
     },
     "warning: quant_method \"awq\" is not checked"},
};

class InspectCases : public testing::TestWithParam<Case> {};

TEST_P(InspectCases, AreFound) {
  Model model = GoodModel();
  GetParam().change(model);
  EXPECT_THAT(Problems(model), Contains(HasSubstr(GetParam().problem)));
}

INSTANTIATE_TEST_SUITE_P(Inspect, InspectCases, testing::ValuesIn(kCases),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(Inspect, WhatVllmAcceptsIsNoProblem) {
  Model dynamic = GoodModel();
  dynamic.quantization()["activation_scheme"] = "dynamic";
  dynamic.Remove(kQ + ".input_scale");
  EXPECT_THAT(Problems(dynamic), IsEmpty());

  Model tied = GoodModel();
  tied.config["tie_word_embeddings"] = true;
  EXPECT_THAT(Problems(tied), IsEmpty());
  tied.Remove("lm_head.weight");
  EXPECT_THAT(Problems(tied), IsEmpty());

  Model skipped = GoodModel();  // a whole fused group left as it was
  for (const std::string part : {"gate_proj", "up_proj"}) {
    const std::string module = "model.layers.1.mlp." + part;
    skipped.quantization()["ignored_layers"].push_back(module);
    skipped.Put(module + ".weight", Dtype::kBF16, {12, 8});
    skipped.Remove(module + ".weight_scale");
    skipped.Remove(module + ".input_scale");
  }
  EXPECT_THAT(Problems(skipped), IsEmpty());
}

TEST(Inspect, ATiedHeadThatDiffersIsAWarning) {
  const ScratchDirectory scratch;
  Model model = GoodModel();
  model.config["tie_word_embeddings"] = true;
  WriteModel(model, scratch, 1 << 20);
  EXPECT_THAT(Inspect(scratch.path()).problems, IsEmpty());
  const int64_t end = CheckpointReader(scratch.path()).Get("lm_head.weight").entry.end;
  std::string file = scratch.Get("model.safetensors");
  file[static_cast<std::size_t>(end - 1)] = 1;
  scratch.Put("model.safetensors", file);
  const InspectionReport differing = Inspect(scratch.path());
  ASSERT_EQ(differing.problems.size(), 1u);
  EXPECT_THAT(differing.problems[0].text, HasSubstr("\"tie_word_embeddings\": false"));
  EXPECT_FALSE(differing.HasErrors());
}

// All that is said of the good model after a change to its directory.
std::string Said(const std::function<void(const ScratchDirectory&)>& change) {
  const ScratchDirectory scratch;
  WriteModel(GoodModel(), scratch, 1 << 20);
  change(scratch);
  const InspectionReport report = Inspect(scratch.path());
  EXPECT_FALSE(report.HasErrors());
  std::string all;
  for (const Finding& finding : report.problems) all += finding.text + "\n";
  for (const std::string& note : report.notes) all += "note " + note + "\n";
  return all;
}

TEST(Inspect, SaysWhatLiesBesideTheWeights) {
  const auto remove = [](const char* name) {
    return
        [name](const ScratchDirectory& scratch) { std::filesystem::remove(scratch.path() / name); };
  };
  const auto put = [](const char* name, const std::string& contents) {
    return [=](const ScratchDirectory& scratch) { scratch.Put(name, contents); };
  };
  EXPECT_EQ(Said([](const ScratchDirectory&) {}), "");
  EXPECT_THAT(Said(remove("tokenizer.json")), HasSubstr("there is no tokenizer ("));
  EXPECT_THAT(Said(remove("tokenizer_config.json")), HasSubstr("no tokenizer_config.json"));
  EXPECT_THAT(Said([&](const ScratchDirectory& scratch) {
                remove("tokenizer.json")(scratch);
                scratch.Put("tokenizer.model", "x");
              }),
              HasSubstr("only tokenizer.model"));
  EXPECT_THAT(Said([](const ScratchDirectory& scratch) {
                std::filesystem::create_symlink("gone", scratch.path() / "merges.txt");
              }),
              HasSubstr("merges.txt (a symbolic link to gone"));
  EXPECT_THAT(Said(put("adapter_config.json", "{}")), HasSubstr("adapter_config.json"));
  EXPECT_THAT(Said(put("narrow-report.json", R"({"strategy":{"head_basis":"fitted"}})")),
              HasSubstr("--head_basis none"));
  EXPECT_EQ(Said(put("narrow-report.json", R"({"strategy":{"head_basis":"none"}})")), "");
  EXPECT_EQ(Said(put("narrow-report.json", "{")), "");
}

TEST(Inspect, QuarkLayout) {
  Model model = GoodModel();
  model.config["quantization_config"] = ParseJson(
      R"({"quant_method": "quark", "exclude": ["lm_head"], "layer_quant_config": {},
          "layer_type_quant_config": {}, "export": {"kv_cache_group": ["*k_proj", "*v_proj"],
          "pack_method": "reorder"},
          "global_quant_config": {"input_tensors": {"is_dynamic": false}}})",
      "quark");
  for (const std::string layer : {"model.layers.0.self_attn.", "model.layers.1.self_attn."}) {
    for (const std::string kv : {"k", "v"}) {
      model.Remove(layer + kv + "_scale");
      model.PutScale(layer + kv + "_proj.output_scale", 0.5f);
    }
  }
  EXPECT_THAT(Problems(model), IsEmpty());
  model.Remove(kQ + ".input_scale");
  model.Remove("model.layers.0.self_attn.k_proj.output_scale");
  model.Remove("model.layers.0.self_attn.v_proj.output_scale");
  EXPECT_THAT(Problems(model), Contains(HasSubstr("no input_scale")));
  EXPECT_THAT(Problems(model), Contains(HasSubstr("no K and V scales")));
}

std::vector<std::string> Notes(const Model& model) {
  const ScratchDirectory scratch;
  WriteModel(model, scratch, 1 << 20);
  return Inspect(scratch.path()).notes;
}

TEST(Inspect, SaysWhatQueriesHaveNoScale) {
  Model model = GoodModel();
  EXPECT_THAT(Notes(model), IsEmpty());
  model.Remove("model.layers.0.self_attn.q_scale");
  model.Remove("model.layers.1.self_attn.q_scale");
  EXPECT_THAT(Notes(model), Contains(HasSubstr("no scales of queries (q_scale): vLLM takes 1.0")));
  model.PutScale("model.layers.0.self_attn.q_scale", 0.5f);
  EXPECT_THAT(Notes(model), IsEmpty());
  EXPECT_THAT(Problems(model), ElementsAre(HasSubstr("layers.1.self_attn has no q_scale")));
  model.PutScale("model.layers.1.self_attn.q_proj.output_scale", 0.5f);
  EXPECT_THAT(Problems(model), IsEmpty());
  model.PutScale("model.layers.1.self_attn.q_scale", 0.5f);
  EXPECT_THAT(Problems(model), Contains(HasSubstr("a q_scale and a q_proj.output_scale")));
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    model.Remove(layer + "self_attn.k_scale");
    model.Remove(layer + "self_attn.v_scale");
    if (model.tensors.contains(layer + "self_attn.q_scale")) {
      model.Remove(layer + "self_attn.q_scale");
    }
  }
  model.Remove("model.layers.1.self_attn.q_proj.output_scale");
  EXPECT_THAT(Notes(model), IsEmpty());  // no cache, no FP8 attention
}

TEST(Inspect, ReportsARepeatedMistakeAFewTimes) {
  Model model = GoodModel();
  model.config["num_hidden_layers"] = 100;
  const std::vector<std::string> problems = Problems(model);
  EXPECT_THAT(problems, Contains("error: and 874 more missing tensors"));  // 98 * 9 - 8
  EXPECT_LT(problems.size(), 40u);
}

TEST(Inspect, ListsWhatIsLeftOfADamagedCheckpoint) {
  const ScratchDirectory scratch;
  WriteModel(GoodModel(), scratch, 400);
  std::filesystem::path last;
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
    if (entry.path().extension() == ".safetensors") last = std::max(last, entry.path());
  }
  std::filesystem::resize_file(last, std::filesystem::file_size(last) - 1);
  const InspectionReport damaged = Inspect(scratch.path());
  EXPECT_THAT(damaged.problems,
              Contains(AllOf(Field(&Finding::severity, Severity::kError),
                             Field(&Finding::text, HasSubstr("truncated or damaged")))));
  EXPECT_TRUE(damaged.HasErrors());
  EXPECT_GT(damaged.tensors.size(), 20u);
  std::filesystem::remove(last);
  EXPECT_THAT(Inspect(scratch.path()).problems,
              Contains(Field(&Finding::text, HasSubstr(last.filename().string()))));
}

TEST(Inspect, ComparesTheTotalSize) {
  const ScratchDirectory scratch;
  WriteModel(GoodModel(), scratch, 400);
  const std::string path = (scratch.path() / "model.safetensors.index.json").string();
  Json index = ReadJsonFile(path);
  index["metadata"]["total_size"] = 7;
  scratch.Put("model.safetensors.index.json", index.dump());
  EXPECT_THAT(Inspect(scratch.path()).problems,
              Contains(Field(&Finding::text, HasSubstr("total_size 7"))));
}

TEST(Inspect, RefusesWhatIsNoCheckpoint) {
  const ScratchDirectory scratch;
  ExpectError(ErrorCode::kNotFound, "no config.json", [&] { Inspect(scratch.path()); });
  scratch.Put("config.json", "{}");
  ExpectError(ErrorCode::kNotFound, "no safetensors weights", [&] { Inspect(scratch.path()); });
  scratch.Put("model.safetensors", "x");
  EXPECT_THAT(Inspect(scratch.path()).problems,
              Contains(Field(&Finding::text, HasSubstr("too few"))));
  scratch.Put("config.json", "[");
  ExpectError(ErrorCode::kCorruptInput, "not valid JSON", [&] { Inspect(scratch.path()); });
}

TEST(Inspect, ACheckpointOfTransformersHasNoProblems) {
  const char* shared = std::getenv("NARROW_SHARED_DIR");
  const std::filesystem::path directory =
      std::filesystem::path(shared != nullptr ? shared : NARROW_SOURCE_DIR "/../shared") /
      "golden/tiny-llama3";
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
  const InspectionReport report = Inspect(directory);
  EXPECT_EQ(report.tensors.size(), 30u);
  for (const Finding& finding : report.problems) ADD_FAILURE() << finding.text;
}

}  // namespace
}  // namespace narrow
