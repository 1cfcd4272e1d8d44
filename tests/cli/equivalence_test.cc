// What must not make a difference makes none: threads, batches, the source's files and spelling.
#include <gtest/gtest.h>

#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

class Equivalence : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  // Writes a model and quantizes it into `output`.
  void Quantize(const TinyModel& model, const std::string& output,
                const std::vector<std::string>& more) const {
    WriteTinyModel(Path("model"), model);
    std::vector<std::string> arguments = {
        "quantize",   "--model_dir",      Path("model"), "--output_dir",
        Path(output), "--kv_cache_dtype", "fp8",         "--num_calib_data",
        "12",         "--seq_len",        "200",         "--eval_windows",
        "2",          "--window_tokens",  "512"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = RunNarrow(arguments);
    ASSERT_EQ(result.status, 0) << result.error;
    std::filesystem::remove_all(Path("model"));
  }

  Json Report(const std::string& output) const {
    return ReadJsonFile(Path(output) + "/narrow-report.json");
  }

  // All files are the same but reports and model card, which hold times and the command.
  void ExpectSameOutput(const std::string& a, const std::string& b) const {
    EXPECT_EQ(Names(Path(a)), Names(Path(b)));
    for (const std::string& name : Names(Path(a))) {
      // Times, and hashes of files with times.
      if (name == "narrow-report.json" || name == "report.html" || name == "README.md" ||
          name == "narrow-output.json") {
        continue;
      }
      EXPECT_TRUE(ReadFile(Path(a) + "/" + name) == ReadFile(Path(b) + "/" + name)) << name;
    }
    const Json first = Report(a);
    const Json second = Report(b);
    for (const char* member : {"calibration", "evaluation", "weights", "inputs", "kv_cache"}) {
      EXPECT_EQ(first[member], second[member]) << member;
    }
  }

  // Losses of the windows of a directory, as narrow evaluate finds them.
  std::vector<double> Evaluate(const std::string& directory, const std::string& data_type,
                               const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"evaluate",
                                          "--model_dir",
                                          Path(directory),
                                          "--eval_windows",
                                          "2",
                                          "--window_tokens",
                                          "512",
                                          "--data_type",
                                          data_type,
                                          "--json",
                                          Path("evaluation.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = RunNarrow(arguments);
    EXPECT_EQ(result.status, 0) << result.error;
    const Json json = ReadJsonFile(Path("evaluation.json"));
    EXPECT_EQ(json["windows"], 2);
    return json["window_nll"].get<std::vector<double>>();
  }

  void ExpectEvaluationAgrees(const std::string& data_type, const std::string& mode) const {
    const TinyModel model = {.rope = TinyModel::Rope::kLlama3};
    Quantize(model, "output", {"--data_type", data_type, "--custom_mode", mode});
    const Json nll = Report("output")["evaluation"]["window_nll"];
    const std::vector<double> quantized = Evaluate("output", data_type);
    WriteTinyModel(Path("source"), model);
    const std::vector<double> original = Evaluate("source", data_type);
    ASSERT_EQ(quantized.size(), 2u);
    for (std::size_t i = 0; i < quantized.size(); ++i) {
      EXPECT_NEAR(quantized[i], nll["quantized"][i].get<double>(), 1e-6);
      EXPECT_NEAR(original[i], nll["original"][i].get<double>(), 1e-6);
      EXPECT_NE(quantized[i], original[i]);
    }
    ExpectBothArithmetics(data_type);
  }

  // The attention of what was read back: both at once and each alone, as in the job's own report.
  void ExpectBothArithmetics(const std::string& data_type) const {
    const auto evaluate = [&](const char* attention) {
      Evaluate("output", data_type, {"--attention", attention});
      return ReadJsonFile(Path("evaluation.json"));
    };
    const Json perplexity = Report("output")["evaluation"]["perplexity"];
    const Json both = evaluate("both"), fp8 = evaluate("fp8"), bf16 = evaluate("bf16");
    EXPECT_NEAR(both["perplexity"].get<double>(), perplexity["deployed"].get<double>(), 1e-3);
    EXPECT_NEAR(both["perplexity_bf16_attention"].get<double>(),
                perplexity["deployed_bf16_attention"].get<double>(), 1e-3);
    EXPECT_NE(both["perplexity"], both["perplexity_bf16_attention"]);
    EXPECT_EQ(fp8["perplexity"], both["perplexity"]);
    EXPECT_TRUE(fp8["perplexity_bf16_attention"].is_null());
    EXPECT_EQ(bf16["perplexity"], both["perplexity_bf16_attention"]);
    EXPECT_EQ(bf16["perplexity_bf16_attention"], bf16["perplexity"]);
    EXPECT_EQ(both["attention"], "both");
    Evaluate("source", data_type);
    EXPECT_FALSE(ReadJsonFile(Path("evaluation.json")).contains("attention"));
  }

  ScratchDirectory scratch_;
};

TEST_F(Equivalence, Threads) {
  for (const char* data_type : {"auto", "float32"}) {
    SCOPED_TRACE(data_type);
    Quantize({.hidden = 96}, "one", {"--threads", "1", "--data_type", data_type, "--overwrite"});
    for (const char* threads : {"2", "3"}) {
      SCOPED_TRACE(threads);
      Quantize({.hidden = 96}, "many",
               {"--threads", threads, "--data_type", data_type, "--overwrite"});
      ExpectSameOutput("one", "many");
    }
  }
}

TEST_F(Equivalence, BatchSizes) {
  Quantize({}, "one", {"--batch_size", "1"});
  for (const char* size : {"3", "64"}) {
    SCOPED_TRACE(size);
    Quantize({}, "many", {"--batch_size", size, "--overwrite"});
    ExpectSameOutput("one", "many");
  }
}

TEST_F(Equivalence, FilesOfTheSource) {
  Quantize({.shards = 1}, "one", {"--no_weight_matrix_merge"});
  Quantize({.shards = 7}, "many", {"--no_weight_matrix_merge"});
  ExpectSameOutput("one", "many");
}

TEST_F(Equivalence, SpellingsOfTheConfig) {
  using Rope = TinyModel::Rope;
  std::string weights_of_default;
  for (const Rope rope : {Rope::kDefault, Rope::kLinear, Rope::kLlama3}) {
    SCOPED_TRACE(static_cast<int>(rope));
    Quantize({.spelling = TinyModel::Spelling::kTransformers4, .rope = rope}, "four",
             {"--overwrite"});
    Quantize({.spelling = TinyModel::Spelling::kTransformers5, .rope = rope}, "five",
             {"--overwrite"});
    const std::string weights = ReadFile(Path("four") + "/model.safetensors");
    EXPECT_TRUE(weights == ReadFile(Path("five") + "/model.safetensors"));
    EXPECT_EQ(Report("four")["evaluation"], Report("five")["evaluation"]);
    // The rotation was not simply ignored in both.
    if (rope == Rope::kDefault) {
      weights_of_default = weights;
    } else {
      EXPECT_FALSE(weights == weights_of_default);
    }
  }
}

TEST_F(Equivalence, EvaluateGivesTheLossesOfTheRun) {
  ExpectEvaluationAgrees("auto", "fp8");
  std::filesystem::remove_all(Path("output"));
  ExpectEvaluationAgrees("float32", "fp8");
  std::filesystem::remove_all(Path("output"));
  ExpectEvaluationAgrees("auto", "quark");
}

}  // namespace
}  // namespace narrow
