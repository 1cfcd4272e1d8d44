// Every family against transformers' float32 forward of a random model: losses, and the
// ranges that calibration sees; then quantized, inspected and evaluated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "model/experts.h"
#include "model/loaded_layer.h"
#include "model/model_source.h"
#include "quantization/calibration.h"
#include "tests/build_paths.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/test_names.h"
#include "tests/support/tiny_model.h"
#include "text/token_stream.h"

namespace narrow {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

// What the experts of a layer read, and who chose them.
struct Routes {
  Routes(int64_t tokens, const LayerSpec& layer)
      : inputs(tokens, layer.hidden),
        experts(static_cast<std::size_t>(tokens * PerToken(layer))),
        weights(experts.size()),
        rows{inputs.view(), PerToken(layer), experts.data(), weights.data()} {}
  static int64_t PerToken(const LayerSpec& layer) {
    return layer.experts ? layer.experts->per_token : 0;
  }

  HiddenStates inputs;
  std::vector<int32_t> experts;
  std::vector<float> weights;
  RoutedRows rows;
};

// Returns what was seen of each; nothing where no token chose an expert.
std::vector<std::optional<LayerRanges>> RunAllExperts(const CheckpointReader& checkpoint,
                                                      const LayerSpec& layer,
                                                      const RoutedRows& routed,
                                                      MatrixView<float> hidden) {
  std::vector<std::optional<LayerRanges>> seen;
  for (int32_t e = 0; layer.experts && e < layer.experts->count; ++e) {
    const LoadedLayer expert(
        OpenLayer(checkpoint, SourceSchemes(checkpoint), ExpertLayer(layer, e), int64_t{1} << 30),
        ComputeType::kFloat32);
    const ExpertRows rows = RowsOfExpert(routed, hidden.rows, e);
    LayerCalibration calibration(expert.spec(), {}, {});
    calibration.BeginBatch(ComputeType::kFloat32, 0, std::ssize(rows.rows));
    ForwardExpert(expert.runnable(), layer.experts->routing.weighed, routed, rows, hidden,
                  &calibration);
    seen.emplace_back();
    if (!rows.rows.empty()) seen.back() = calibration.Take(expert.spec()).ranges;
  }
  return seen;
}

class Families : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    directory_ = SharedPath(fmt::format("golden/families/tiny-{}", GetParam()));
    if (directory_.empty()) GTEST_SKIP() << "the shared golden data is not there";
    reference_ = ReadJsonFile(directory_ + "/reference.json");
  }

  Json Evaluate(const std::string& directory, const ScratchDirectory& scratch) const {
    const std::string json = (scratch.path() / "e.json").string();
    const CommandResult result = EvaluateIds(directory, reference_["tokens"], scratch, json);
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(json);
  }

  void ExpectRanges(const LayerSpec& spec, const LayerRanges& ranges, std::size_t layer) const {
    for (const LinearSpec& linear : spec.linears) {
      const auto amax = reference_["input_amax"].at(linear.module).get<float>();
      EXPECT_NEAR(LargestOf(ranges.Input(linear.group)), amax, 1e-3f * amax) << linear.module;
    }
    if (spec.attention.As<DirectHeads>() == nullptr) return;  // others have no such entry
    if (spec.attention.scores.window > 0) return;  // the reference has the last window alone
    const Json& cache = reference_["cache_amax"][layer];
    const auto key = cache[0].get<float>(), value = cache[1].get<float>();
    EXPECT_NEAR(LargestOf(ranges.keys), key, 1e-3f * key) << "layer " << layer;
    EXPECT_NEAR(LargestOf(ranges.values), value, 1e-3f * value) << "layer " << layer;
  }

  // tools/goldens/make_expert_ranges.py
  void ExpectExpertRanges(const std::vector<std::optional<LayerRanges>>& seen,
                          std::size_t layer) const {
    static const Json all =
        ReadJsonFile(NARROW_SOURCE_DIR "/tests/golden/expert_ranges.json")["families"];
    if (seen.empty() || !all.contains(GetParam())) return;
    const Json& expected = all[GetParam()].at(std::to_string(layer));
    for (const auto& [group, what] :
         {std::pair(LinearGroup::kGateUp, "gate_up"), std::pair(LinearGroup::kDown, "down")}) {
      ASSERT_EQ(seen.size(), expected[what].size());
      for (std::size_t e = 0; e < seen.size(); ++e) {
        ASSERT_EQ(seen[e].has_value(), !expected[what][e].is_null()) << layer << " " << e;
        if (!seen[e]) continue;
        const auto amax = expected[what][e].get<float>();
        EXPECT_NEAR(LargestOf(seen[e]->Input(group)), amax, 1e-3f * amax)
            << what << " of expert " << e << " in layer " << layer;
      }
    }
  }

  std::string directory_;
  Json reference_;
};

TEST_P(Families, LossesAreThoseOfTransformers) {
  const ScratchDirectory scratch;
  EXPECT_THAT(Evaluate(directory_, scratch)["window_nll"].get<std::vector<double>>(),
              Pointwise(DoubleNear(1e-4), reference_["window_nll"].get<std::vector<double>>()));
}

TEST_P(Families, RangesAreThoseOfTransformers) {
  const ModelSource source = OpenModel(directory_, WeightState::kOriginal);
  TokenStream stream;
  for (const Json& window : reference_["tokens"]) {
    stream.Append(window.get<std::vector<int32_t>>());
  }
  const ModelSpec model = source.family->model(source.config);
  const std::vector<float> table = ReadFloats(*source.checkpoint, model.embedding);
  HiddenStates hidden(stream.size(), source.config.hidden);
  for (int64_t i = 0; i < hidden.rows; ++i) {
    const int64_t token = stream.tokens[static_cast<std::size_t>(i)];
    for (int64_t c = 0; c < hidden.width; ++c) {
      hidden.view().Row(i)[c] =
          table[static_cast<std::size_t>(token * hidden.width + c)] * model.embedding_scale;
    }
  }
  const RopeTables rope(LayersOf(*source.family, source.config), stream.longest());
  BatchWorkspace workspace;
  for (int64_t i = 0; i < source.config.layers; ++i) {
    const LoadedLayer loaded(OpenLayer(*source.checkpoint, SourceSchemes(*source.checkpoint),
                                       source.family->layer(source.config, i), int64_t{1} << 30),
                             ComputeType::kFloat32);
    LayerCalibration calibration(loaded.spec(), {}, {});
    Routes routes(stream.size(), loaded.spec());
    ForwardLayer(loaded.runnable(), rope, stream.sequences, hidden.view(), workspace, &calibration,
                 &routes.rows);
    ExpectExpertRanges(RunAllExperts(*source.checkpoint, loaded.spec(), routes.rows, hidden.view()),
                       static_cast<std::size_t>(i));
    ExpectRanges(loaded.spec(), calibration.Take(loaded.spec()).ranges,
                 static_cast<std::size_t>(i));
  }
}

TEST_P(Families, IsQuantizedInspectedAndEvaluated) {
  const ScratchDirectory scratch;
  const std::string output = (scratch.path() / "fp8").string();
  const CommandResult quantized =
      RunNarrow({"quantize", "--model_dir", directory_, "--output_dir", output, "--num_calib_data",
                 "4", "--seq_len", "64", "--kv_cache_dtype", "fp8", "--eval_windows", "1",
                 "--custom_mode", "fp8"});
  ASSERT_EQ(quantized.status, 0) << quantized.error;
  const CommandResult listed = RunNarrow({"inspect", output, "--json"});
  ASSERT_EQ(listed.status, 0) << listed.error;
  const Json problems = ParseJson(listed.output, "inspect")["problems"];
  EXPECT_TRUE(problems.empty()) << problems.dump(1);
  const auto before = reference_["window_nll"].get<std::vector<double>>();
  // Rounded states route some tokens to other experts, which in a random model are no like ones.
  const bool routes = ReadJsonFile(directory_ + "/config.json").contains("moe_intermediate_size");
  const double tolerance = routes ? 0.15 : 0.1;
  EXPECT_THAT(Evaluate(output, scratch)["window_nll"].get<std::vector<double>>(),
              Pointwise(DoubleNear(tolerance), before));
}

// The figures of the job are those of what it wrote: of models whose first layers have no cache,
// and of experts in every way that checkpoints keep their weights.
class FamiliesWithOthers : public Families {};
TEST_P(FamiliesWithOthers, AreEvaluatedAsTheirJobSaid) {
  for (const std::string scheme : {"fp8", "FP8_BLOCK", "NVFP4"}) {
    SCOPED_TRACE(scheme);
    const ScratchDirectory scratch;
    const std::string output = (scratch.path() / "out").string();
    const CommandResult quantized = RunNarrow(
        {"quantize", "--model_dir", directory_, "--output_dir", output, "--quant_scheme", scheme,
         "--num_calib_data", "4", "--seq_len", "64", "--kv_cache_dtype", "fp8", "--data_type",
         "float32", "--eval_data", PutIds(scratch, "windows.jsonl", reference_["tokens"])});
    ASSERT_EQ(quantized.status, 0) << quantized.error;
    const Json job = ReadJsonFile(output + "/narrow-report.json")["evaluation"]["perplexity"];
    const Json later = Evaluate(output, scratch);
    EXPECT_EQ(later["perplexity"], job["deployed"]);
    EXPECT_EQ(later["perplexity_bf16_attention"], job["deployed_bf16_attention"]);
  }
}

// transformers takes the short factors for texts within the original 64 tokens, the long ones
// beyond; vLLM the long ones for all.
TEST(LongRope, FactorsAreThoseOfTheServerUnlessAskedFor) {
  const std::string directory = SharedPath("golden/families/tiny-phi3");
  if (directory.empty()) GTEST_SKIP() << "the shared golden data is not there";
  const ScratchDirectory scratch;
  const Json reference = ReadJsonFile(directory + "/reference.json");
  const auto evaluate = [&](const std::vector<std::string>& flags) {
    const std::string json = (scratch.path() / "e.json").string();
    const CommandResult result = EvaluateIds(directory, reference["tokens"], scratch, json, flags);
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(json);
  };
  const Json served = evaluate({}), asked = evaluate({"--rope_factors", "long"});
  EXPECT_EQ(served["rope_factors"], "long");
  EXPECT_EQ(served["window_nll"], asked["window_nll"]);
  const Json other = evaluate({"--rope_factors", "short"});
  EXPECT_EQ(other["rope_factors"], "short");
  EXPECT_NE(other["window_nll"], served["window_nll"]);
}

INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         testing::Values("llama-yarn", "qwen2", "qwen3", "mistral", "ministral",
                                         "ministral3", "phi3", "olmo2", "olmo3", "granite", "glm4",
                                         "smollm3", "ernie4-5", "seed-oss", "exaone4",
                                         "hunyuan-dense", "qwen3-moe", "qwen2-moe", "olmoe",
                                         "mixtral", "minimax-m2", "glm4-moe", "granitemoe",
                                         "gpt-oss", "qwen3-5", "qwen3-5-moe", "qwen3-next",
                                         "deepseek-v3", "deepseek-v32", "glm-moe-dsa"),
                         NameOfModelTest);

INSTANTIATE_TEST_SUITE_P(Golden, FamiliesWithOthers,
                         testing::Values("qwen3", "qwen3-moe", "qwen2-moe", "olmoe", "mixtral",
                                         "minimax-m2", "glm4-moe", "granitemoe", "gpt-oss",
                                         "llama4", "qwen3-5", "qwen3-5-moe", "qwen3-next",
                                         "deepseek-v3", "deepseek-v32", "glm-moe-dsa"),
                         NameOfModelTest);

}  // namespace
}  // namespace narrow
