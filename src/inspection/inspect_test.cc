#include "inspection/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "inspection/inspected_model.h"
#include "io/checkpoint_reader.h"
#include "tests/build_paths.h"

namespace narrow {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

using namespace inspected;

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
