// Qwen2, whose q, k and v alone have biases: against transformers' float32 forward of a random
// model, and through the commands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"

namespace narrow {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

class TinyQwen2 : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = SharedPath("golden/families/tiny-qwen2");
    if (directory_.empty()) GTEST_SKIP() << "the shared golden data is not there";
    reference_ = ReadJsonFile(directory_ + "/reference.json");
  }

  std::string directory_;
  Json reference_;
};

TEST_F(TinyQwen2, LossesOfLinesOfIdsMatchTransformers) {
  const ScratchDirectory scratch;
  const std::string json = (scratch.path() / "e.json").string();
  const CommandResult result = EvaluateIds(directory_, reference_["tokens"], scratch, json);
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(ReadJsonFile(json)["window_nll"].get<std::vector<double>>(),
              Pointwise(DoubleNear(1e-4), reference_["window_nll"].get<std::vector<double>>()));
}

constexpr const char* kConfig = R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
  "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 512, "rope_theta": 1000000.0, "rms_norm_eps": 1e-06,
  "use_sliding_window": false, "sliding_window": 131072, "max_window_layers": 2,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16"})";

TEST(Qwen2, IsSynthesizedQuantizedInspectedAndEvaluated) {
  const ScratchDirectory scratch;
  const auto path = [&](const char* name) { return (scratch.path() / name).string(); };
  const auto run = [](const std::vector<std::string>& words) {
    const CommandResult result = RunNarrow(words);
    EXPECT_EQ(result.status, 0) << words[0] << ": " << result.error;
    return result.output;
  };
  run({"synthesize", path("model"), "--config", scratch.Put("c.json", kConfig).string()});
  run({"quantize", "--model_dir", path("model"), "--output_dir", path("fp8"), "--num_calib_data",
       "4", "--kv_cache_dtype", "fp8", "--seq_len", "64", "--eval_windows", "1"});
  const Json listed = ParseJson(run({"inspect", path("fp8"), "--json"}), "inspect");
  EXPECT_TRUE(listed["problems"].empty()) << listed["problems"].dump(1);
  int64_t biases = 0;
  for (const Json& tensor : listed["tensors"]) {
    biases += tensor["name"].get<std::string>().ends_with(".bias") ? 1 : 0;
  }
  EXPECT_EQ(biases, 2 * 3);
  const std::string json = path("e.json");
  run({"evaluate", "--model_dir", path("fp8"), "--eval_windows", "1", "--json", json});
  EXPECT_GT(ReadJsonFile(json)["perplexity"].get<double>(), 1.0);
}

}  // namespace
}  // namespace narrow
