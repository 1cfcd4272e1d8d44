// Where quantization costs, against runs of their own that quantize a part alone.
#include <cmath>
#include <numeric>

#include "tensor/scalar_types.h"
#include "tests/quality/quality_job.h"

namespace narrow {
namespace {

const std::vector<std::string> kCache = {"--kv_cache_dtype", "fp8"};

std::vector<std::string> With(std::vector<std::string> flags,
                              const std::vector<std::string>& more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

class Attribution : public QualityJob {
 protected:
  // A checkpoint of the numbers that the codes of `output` stand for, in f32.
  void WriteDequantized(const std::string& output, const std::string& directory) const {
    WriteTinyModel(Path(directory), {.layers = kLayers,
                                     .dtype = Dtype::kF32,
                                     .attention_bias = TinyModel::Presence::kPresent,
                                     .mlp_bias = TinyModel::Presence::kPresent});
    const auto stored = ReadTensors(Path(output));
    std::vector<TinyTensor> tensors;
    for (const auto& [name, tensor] : stored) {
      if (name.ends_with("_scale")) continue;
      std::vector<float> values;
      if (tensor.dtype == Dtype::kF8E4M3) {
        const float scale = stored.at(name + "_scale").Scalar();
        for (const char byte : tensor.bytes) {
          values.push_back(ToFloat(Float8E4M3{static_cast<uint8_t>(byte)}) * scale);
        }
      } else {
        values = tensor.Floats();
      }
      tensors.push_back({name, Dtype::kF32, tensor.shape,
                         std::string(reinterpret_cast<const char*>(values.data()),
                                     values.size() * sizeof(float))});
    }
    WriteWeights(Path(directory), tensors, 1);
  }

  std::vector<double> WindowLosses(const std::string& directory) const {
    const CommandResult result = RunNarrow(
        {"evaluate", "--model_dir", Path(directory), "--eval_windows", "3", "--window_tokens",
         "300", "--data_type", "float32", "--json", Path("evaluation.json")});
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(Path("evaluation.json"))["window_nll"].get<std::vector<double>>();
  }
};

// With attribution over all windows its last part is the deployed network itself.
TEST_F(Attribution, EndsWithTheDeployedNetwork) {
  for (const std::vector<std::string>& flags :
       {kCache, With(kCache, {"--no_weight_matrix_merge"}), std::vector<std::string>{}}) {
    const Json report = Quantize("output", With(flags, {"--overwrite"}));
    const Json& attribution = report["evaluation"]["attribution"];
    const Json& deployed = report["evaluation"]["divergence"]["deployed"];
    EXPECT_EQ(attribution["windows"], kWindows);
    const Json& last = attribution["parts"].back();
    EXPECT_EQ(attribution["parts"].size(), flags.empty() ? 2u : 4u);
    EXPECT_EQ(last["part"], flags.empty() ? "inputs" : "queries_and_probabilities");
    EXPECT_EQ(last["kl"], deployed["kl"]);
    EXPECT_EQ(last["nll_increase"], deployed["nll_increase"]);
    double kl = 0;
    for (const Json& part : attribution["parts"]) kl += part["kl_added"]["mean"].get<double>();
    EXPECT_NEAR(kl, deployed["kl"]["mean"].get<double>(), 1e-12);
  }
}

// Each arithmetic of attention is the same network whether the other is evaluated or not, and the
// cache's part ends with the one that dequantizes it.
TEST_F(Attribution, ArithmeticsOfAttentionAreNetworksOfTheirOwn) {
  for (const std::vector<std::string>& flags :
       {kCache, With(kCache, {"--no_weight_matrix_merge"})}) {
    const auto evaluation = [&](const char* attention) {
      return Quantize("output", With(flags, {"--overwrite", "--attention", attention}))
          .at("evaluation");
    };
    const Json both = evaluation("both"), fp8 = evaluation("fp8"), bf16 = evaluation("bf16");
    const Json& divergence = both["divergence"];
    EXPECT_NE(both["kl"]["deployed"], both["kl"]["deployed_bf16_attention"]);
    EXPECT_EQ(fp8["divergence"]["deployed"], divergence["deployed"]);
    EXPECT_TRUE(fp8["divergence"]["deployed_bf16_attention"].is_null());
    EXPECT_TRUE(fp8["perplexity"]["deployed_bf16_attention"].is_null());
    for (const char* name : {"deployed", "deployed_bf16_attention"}) {
      EXPECT_EQ(bf16["divergence"][name], divergence["deployed_bf16_attention"]);
      EXPECT_EQ(bf16["perplexity"][name], both["perplexity"]["deployed_bf16_attention"]);
      EXPECT_EQ(bf16["kl"][name], both["kl"]["deployed_bf16_attention"]);
    }
    EXPECT_EQ(bf16["divergence"]["pseudo"], divergence["pseudo"]);
    EXPECT_EQ(both["perplexity"]["quantized"], both["perplexity"]["deployed"]);
    EXPECT_EQ(both["window_nll"]["quantized"], divergence["deployed"]["window_nll"]);
    EXPECT_EQ(fp8["attribution"], both["attribution"]);
    EXPECT_EQ(bf16["attribution"]["parts"].size(), 3u);
    const Json& cache = both["attribution"]["parts"][2];
    EXPECT_EQ(cache["part"], "kv_cache");
    EXPECT_EQ(cache["kl"], divergence["deployed_bf16_attention"]["kl"]);
    EXPECT_EQ(bf16["attribution"]["parts"][2], cache);
  }
}

// The part with weights and inputs is the deployed network of a run without a quantized cache.
TEST_F(Attribution, WithoutTheCacheItIsTheRunWithoutIt) {
  const Json with = Quantize("with", kCache);
  const Json without = Quantize("without");
  const Json& inputs = with["evaluation"]["attribution"]["parts"][1];
  EXPECT_EQ(inputs["part"], "inputs");
  EXPECT_EQ(inputs["kl"], without["evaluation"]["divergence"]["deployed"]["kl"]);
  EXPECT_EQ(with["evaluation"]["attribution"]["parts"][0],
            without["evaluation"]["attribution"]["parts"][0]);
}

// The part of the weights is a checkpoint in which they are replaced by what their codes say.
TEST_F(Attribution, OfWeightsIsTheDequantizedCheckpoint) {
  const Json report = Quantize("output", With(kCache, {"--data_type", "float32"}));
  WriteDequantized("output", "dequantized");
  const std::vector<double> original =
      report["evaluation"]["window_nll"]["original"].get<std::vector<double>>();
  const std::vector<double> dequantized = WindowLosses("dequantized");
  ASSERT_EQ(dequantized.size(), original.size());
  double increase = 0;
  for (std::size_t i = 0; i < original.size(); ++i) {
    increase += (dequantized[i] - original[i]) / static_cast<double>(original.size());
  }
  const Json& weights = report["evaluation"]["attribution"]["parts"][0];
  EXPECT_EQ(weights["part"], "weights");
  // Sums of f32 in another order: losses of about 5.5 agree to 1e-6.
  EXPECT_NEAR(weights["nll_increase"]["mean"].get<double>(), increase, 2e-6);
  EXPECT_GT(weights["kl"]["mean"].get<double>(), 0.0);
}

TEST_F(Attribution, CanBeOfSomeWindowsOrNone) {
  const Json all = Quantize("all", kCache);
  const Json one = Quantize("one", With(kCache, {"--attribution_windows", "1"}));
  const Json none = Quantize("none", With(kCache, {"--attribution_windows", "0"}));
  EXPECT_EQ(one["evaluation"]["attribution"]["windows"], 1);
  EXPECT_TRUE(none["evaluation"]["attribution"].is_null());
  // The first window is the one that is taken.
  const double nll = one["evaluation"]["divergence"]["deployed"]["window_nll"][0].get<double>() -
                     one["evaluation"]["window_nll"]["original"][0].get<double>();
  EXPECT_NEAR(
      one["evaluation"]["attribution"]["parts"].back()["nll_increase"]["mean"].get<double>(), nll,
      1e-12);
  for (const Json* report : {&one, &none}) {
    EXPECT_EQ((*report)["evaluation"]["divergence"], all["evaluation"]["divergence"]);
    EXPECT_EQ((*report)["layers"].size(), all["layers"].size());
  }
  for (const std::string& name : Names(Path("all"))) {
    if (!name.ends_with(".safetensors") && name != "config.json") continue;
    EXPECT_TRUE(ReadFile(Path("all") + "/" + name) == ReadFile(Path("none") + "/" + name)) << name;
  }
}

TEST_F(Attribution, SharesOfTheOutputErrorSumToOne) {
  const Json report =
      Quantize("output", With(kCache, {"--exclude_layers", "*layers.1.mlp.down_proj"}));
  ASSERT_EQ(report["layers"].size(), kLayers);
  double sum = 0;
  for (const Json& layer : report["layers"]) {
    const Json& error = layer["error"];
    double parts = 0, errors = 0;
    for (const Json& part : error["parts"]) {
      parts += part["share"].get<double>();
      errors += part["error"].get<double>();
    }
    EXPECT_NEAR(error["share"].get<double>(), parts, 1e-12);
    sum += parts;
    // The parts are taken in the order of the forward step, so that they are nearly independent.
    EXPECT_GT(error["all"].get<double>(), 0.5 * errors);
    EXPECT_LT(error["all"].get<double>(), 2.0 * errors);
  }
  EXPECT_NEAR(sum, 1.0, 1e-12);
  EXPECT_EQ(report["layers"][1]["error"]["parts"]["down"]["error"], 0.0);
  EXPECT_GT(report["layers"][0]["error"]["parts"]["down"]["error"], 0.0);
  EXPECT_GT(report["layers"][0]["error"]["parts"]["kv_cache"]["error"], 0.0);
}

TEST_F(Attribution, NothingIsMeasuredWithoutEvaluation) {
  const Json report = Quantize("output", With(kCache, {"--skip_evaluation"}));
  ASSERT_EQ(report["layers"].size(), kLayers);
  for (const Json& layer : report["layers"]) EXPECT_TRUE(layer["error"].is_null());
}

TEST_F(Attribution, DoesNotDependOnThreads) {
  const Json one = Quantize("one", With(kCache, {"--threads", "1"}));
  const Json two = Quantize("two", With(kCache, {"--threads", "2"}));
  EXPECT_EQ(one["evaluation"]["attribution"], two["evaluation"]["attribution"]);
  for (std::size_t i = 0; i < one["layers"].size(); ++i) {
    EXPECT_EQ(one["layers"][i]["error"], two["layers"][i]["error"]);
  }
}

}  // namespace
}  // namespace narrow
