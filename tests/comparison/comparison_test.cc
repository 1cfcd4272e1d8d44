// A checkpoint judged against its source: figures of other programs, and those that the job that
// made it printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "model/reference.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/mean.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

using Words = std::vector<std::string>;

Words Join(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class Comparison : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  // `narrow evaluate` with these flags; its --json.
  Json Evaluate(const Words& flags) const {
    const CommandResult result =
        RunNarrow(Join({"evaluate", "--json", Path("evaluation.json")}, flags));
    EXPECT_EQ(result.status, 0) << result.error;
    if (result.status != 0) return Json::object();
    return ReadJsonFile(Path("evaluation.json"));
  }
  Json Compare(const std::string& reference, const std::string& model, const Words& flags) const {
    return Evaluate(Join({"--reference", reference, "--model_dir", model}, flags));
  }

  Json Quantize(const std::string& model, const Words& flags) const {
    const CommandResult result = RunNarrow(Join(
        {"quantize", "--model_dir", model, "--output_dir", Path("out"), "--overwrite"}, flags));
    EXPECT_EQ(result.status, 0) << result.error;
    if (result.status != 0) return Json::object();
    return ReadJsonFile(Path("out/narrow-report.json"));
  }

  // What a job said of what it made is what is found of it.
  void ExpectFiguresOf(const Json& report, const Json& compared, const std::string& what) const {
    SCOPED_TRACE(what);
    const Json& said = report.at("evaluation");
    const Json& found = compared.at("evaluation");
    for (const char* figure : {"perplexity", "kl"}) {
      for (const auto& [network, value] : found.at(figure).items()) {
        EXPECT_EQ(value, said.at(figure).at(network)) << figure << " " << network;
      }
    }
    for (const auto& [network, value] : found.at("divergence").items()) {
      EXPECT_EQ(value, said.at("divergence").at(network)) << network;
    }
    EXPECT_EQ(found.at("window_nll"), said.at("window_nll"));
    EXPECT_EQ(found.at("attribution"), said.at("attribution"));
    EXPECT_EQ(found.at("worst_tokens"), said.at("worst_tokens"));
  }

  ScratchDirectory scratch_;
};

const Words kTinyText = {"--eval_windows", "3", "--window_tokens", "256"};
const Words kTinyJob = Join(kTinyText, {"--num_calib_data", "8", "--seq_len", "128"});

TEST_F(Comparison, FindsWhatTheJobSaid) {
  WriteTinyModel(Path("model"), {});
  for (const Words& flags :
       {Words{"--kv_cache_dtype", "fp8"},
        Words{"--kv_cache_dtype", "fp8", "--no_weight_matrix_merge"},
        Words{"--kv_cache_dtype", "fp8", "--custom_mode", "quark"},
        Words{"--kv_cache_dtype", "fp8", "--attention", "fp8"},
        Words{"--kv_cache_dtype", "fp8", "--attention", "bf16"},
        Words{"--head_basis", "none", "--quant_algo", "none"},
        Words{"--quant_scheme", "FP8_DYNAMIC"}, Words{"--quant_scheme", "MXFP4"},
        Words{"--quant_scheme", "NVFP4"}, Words{"--exclude_layers", "*.1.mlp.*"}}) {
    for (const char* data_type : {"auto", "float32"}) {
      const Words type = {"--data_type", data_type};
      const Json report = Quantize(Path("model"), Join(Join(kTinyJob, flags), type));
      if (HasFailure()) return;
      Words asked = Join(kTinyText, type);
      for (std::size_t i = 0; i + 1 < flags.size(); ++i) {
        if (flags[i] == "--attention") asked = Join(asked, {flags[i], flags[i + 1]});
      }
      const Json compared = Compare(Path("model"), Path("out"), asked);
      if (HasFailure()) return;
      ExpectFiguresOf(report, compared, fmt::format("{} {}", fmt::join(flags, " "), data_type));
      // The probe sees the same two layers, whatever the parts it divides the change into. With
      // scales of its own a matrix is probed as it is stored by the job, and as it is served here.
      if (std::ranges::count(flags, "--no_weight_matrix_merge") > 0) continue;
      for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(compared["layers"][i]["error"]["all"], report["layers"][i]["error"]["all"]) << i;
      }
    }
  }
}

TEST_F(Comparison, PartsOfALayerAreItsStages) {
  WriteTinyModel(Path("model"), {});
  Quantize(Path("model"), Join(kTinyJob, {"--kv_cache_dtype", "fp8"}));
  const Json compared = Compare(Path("model"), Path("out"), kTinyText);
  double shares = 0.0;
  for (const Json& layer : compared.at("layers")) {
    shares += layer["error"]["share"].get<double>();
    Words parts;
    for (const auto& [name, part] : layer["error"]["parts"].items()) {
      parts.push_back(name);
      EXPECT_GT(part["error"].get<double>(), 0.0) << name;
    }
    EXPECT_THAT(parts,
                testing::ElementsAre("weights", "inputs", "kv_cache", "queries_and_probabilities"));
  }
  EXPECT_NEAR(shares, 1.0, 1e-12);
}

TEST_F(Comparison, ACheckpointIsItself) {
  WriteTinyModel(Path("model"), {});
  const Json compared = Compare(Path("model"), Path("model"), kTinyText);
  const Json& evaluation = compared.at("evaluation");
  EXPECT_EQ(evaluation["perplexity"]["original"], evaluation["perplexity"]["deployed"]);
  // The same logits, whose sums over the vocabulary are of other orders.
  EXPECT_NEAR(evaluation["kl"]["deployed"].get<double>(), 0.0, 1e-7);
  EXPECT_EQ(evaluation["divergence"]["deployed"]["top1_agreement"]["mean"], 1.0);
  for (const Json& layer : compared.at("layers")) EXPECT_EQ(layer["error"]["all"], 0.0);
}

TEST_F(Comparison, NeitherThreadsNorMemoryChangeABit) {
  for (const auto lm_head : {TinyModel::Presence::kAbsent, TinyModel::Presence::kPresent}) {
    WriteTinyModel(Path("model"), {.vocabulary = 2300, .lm_head = lm_head});
    Quantize(Path("model"), Join(kTinyJob, {"--kv_cache_dtype", "fp8"}));
    const Json first = Compare(Path("model"), Path("out"), Join(kTinyText, {"--threads", "1"}));
    const auto expect_same = [&](const Words& flags) {
      const Json other = Compare(Path("model"), Path("out"), Join(kTinyText, flags));
      EXPECT_EQ(other["evaluation"], first["evaluation"])
          << fmt::format("{}", fmt::join(flags, " "));
      EXPECT_EQ(other["layers"], first["layers"]) << fmt::format("{}", fmt::join(flags, " "));
    };
    expect_same({"--threads", "3"});
    const Words compare = Join(
        {"evaluate", "--reference", Path("model"), "--model_dir", Path("out"), "--threads", "2"},
        kTinyText);
    const std::string line = RunNarrow(Join(compare, {"--memory_budget", "1MiB"})).LastErrorLine();
    std::smatch match;
    ASSERT_TRUE(std::regex_search(line, match, std::regex("would do is ([0-9.]+GiB)"))) << line;
    expect_same({"--threads", "2", "--memory_budget", match[1]});
    fs::remove_all(Path("model"));
  }
}

// Heads that are tied in one checkpoint and stored in the other.
TEST_F(Comparison, HeadsMayBeKeptInAnotherWay) {
  WriteTinyModel(Path("tied"), {.lm_head = TinyModel::Presence::kAbsent});
  fs::copy(Path("tied"), Path("own"), fs::copy_options::recursive);
  auto tensors = ReadTensors(Path("own"));
  tensors["lm_head.weight"] = tensors.at("model.embed_tokens.weight");
  fs::remove(Path("own/model.safetensors"));
  WriteTensors(Path("own"), tensors);
  Json config = ReadJsonFile(Path("own/config.json"));
  config["tie_word_embeddings"] = false;
  WriteFile(Path("own/config.json"), config.dump());
  const auto perplexities = [&](const char* reference, const char* model) {
    return Compare(Path(reference), Path(model), kTinyText).at("evaluation").at("perplexity");
  };
  const Json tied = perplexities("tied", "tied");
  EXPECT_EQ(perplexities("tied", "own"), tied);
  EXPECT_EQ(perplexities("own", "tied"), tied);
  EXPECT_EQ(perplexities("own", "own"), tied);
}

// Checkpoints of other tools: what PyTorch says of them (tools/goldens/make_comparisons.py).
class ForeignCheckpoint : public Comparison, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    base_ = SharedPath("golden/schemes");
    if (base_.empty()) GTEST_SKIP() << "reference checkpoints are absent";
    for (const std::string& name : {std::string("source"), std::string(GetParam())}) {
      fs::create_directories(Path("of/" + name));
      CopyCheckpoint(base_ / name, Path("of/" + name));
    }
    const Json texts = ReadJsonFile((base_ / "calibration.json").string());
    flags_ = {"--eval_data", PutIds(scratch_, "windows.jsonl", texts["windows"]),
              "--data_type", "float32",
              "--attention", "bf16"};
  }

  fs::path base_;
  Words flags_;
};

std::vector<double> Numbers(const Json& json) { return json.get<std::vector<double>>(); }

TEST_P(ForeignCheckpoint, LostWhatOtherCodeSays) {
  const Json expected = ReadReference("comparisons.json").at(GetParam());
  const Json compared = Compare(Path("of/source"), Path(std::string("of/") + GetParam()), flags_);
  if (HasFailure()) return;
  const Json& deployed = compared.at("evaluation").at("divergence").at("deployed");
  // With rounded inputs one rounding that falls the other way moves a window by 1e-3.
  const bool rounds = std::string(GetParam()).starts_with("ct-fp8-static");
  const double loss = rounds ? 2e-3 : 1e-5;
  EXPECT_THAT(
      Numbers(compared["evaluation"]["window_nll"]["original"]),
      testing::Pointwise(testing::DoubleNear(1e-5), Numbers(expected["original_window_nll"])));
  EXPECT_THAT(Numbers(deployed["window_nll"]),
              testing::Pointwise(testing::DoubleNear(loss), Numbers(expected["window_nll"])));
  const double kl = Mean(Numbers(expected["window_kl"]));
  EXPECT_NEAR(deployed["kl"]["mean"].get<double>(), kl, (rounds ? 0.03 : 1e-3) * kl);
  EXPECT_THAT(Numbers(deployed["window_kl"]),
              testing::Pointwise(testing::DoubleNear((rounds ? 0.1 : 1e-3) * kl),
                                 Numbers(expected["window_kl"])));
  EXPECT_NEAR(deployed["top1_agreement"]["mean"].get<double>(),
              Mean(Numbers(expected["window_top1"])), rounds ? 0.02 : 0.003);
}

// What the comparison says of each alone is what `evaluate` says of it.
TEST_P(ForeignCheckpoint, IsEvaluatedAsByItself) {
  const std::string source = Path("of/source"), judged = Path(std::string("of/") + GetParam());
  const Json compared = Compare(source, judged, flags_);
  if (HasFailure()) return;
  const Json& losses = compared.at("evaluation").at("window_nll");
  EXPECT_EQ(losses["original"], Evaluate(Join({"--model_dir", source}, flags_))["window_nll"]);
  EXPECT_EQ(losses["quantized"], Evaluate(Join({"--model_dir", judged}, flags_))["window_nll"]);
}

INSTANTIATE_TEST_SUITE_P(Folders, ForeignCheckpoint,
                         testing::Values("ct-fp8-static", "ct-fp8-static-kv",
                                         "ct-fp8-static-kv-default-observer", "ct-w4a16",
                                         "ct-nvfp4a16", "ct-mxfp4a16", "quark-mxfp4-weight-only"),
                         [](const testing::TestParamInfo<const char*>& folder) {
                           return FolderAsName(folder.param);
                         });

// Mixtures of experts, in both layouts of their tensors, some with shared experts, and attention in
// other forms.
class ComparedFamily : public Comparison, public testing::WithParamInterface<const char*> {};

TEST_P(ComparedFamily, FindsWhatTheJobSaid) {
  const fs::path family = SharedPath(std::string("golden/families/") + GetParam());
  if (family.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  fs::create_directories(Path("model"));
  CopyCheckpoint(family, Path("model"));
  const Json reference = ReadJsonFile((family / "reference.json").string());
  const Words text = {"--eval_data", PutIds(scratch_, "windows.jsonl", reference.at("tokens"))};
  const Json report = Quantize(
      Path("model"), Join(text, {"--dataset", Path("windows.jsonl"), "--kv_cache_dtype", "fp8"}));
  if (HasFailure()) return;
  const Json compared = Compare(Path("model"), Path("out"), text);
  if (HasFailure()) return;
  ExpectFiguresOf(report, compared, GetParam());
  for (std::size_t i = 0; i < compared["layers"].size(); ++i) {
    if (!report["layers"][i].contains("experts")) continue;
    EXPECT_EQ(compared["layers"][i]["experts"]["route_agreement"],
              report["layers"][i]["experts"]["route_agreement"])
        << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ComparedFamily,
                         testing::Values("tiny-mixtral", "tiny-qwen3-moe", "tiny-glm4-moe",
                                         "tiny-gemma2", "tiny-qwen3-next", "tiny-deepseek-v3"),
                         [](const testing::TestParamInfo<const char*>& folder) {
                           return FolderAsName(folder.param);
                         });

}  // namespace
}  // namespace narrow
