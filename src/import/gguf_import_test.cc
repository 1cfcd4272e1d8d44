#include "import/gguf_import.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "import/handmade_model.h"
#include "import/imported_values.h"
#include "io/checkpoint_reader.h"
#include "io/scratch_directory.h"
#include "tensor/scalar_types.h"
#include "tests/build_paths.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTinyModel = NARROW_SOURCE_DIR "/src/import/testdata/llama.gguf";

void ExpectTinyWeights(const CheckpointReader& checkpoint) {
  int64_t seed = 0;
  const auto expect = [&](const std::string& name, const Shape& shape) {
    EXPECT_EQ(checkpoint.Get(name).entry.shape, shape) << name;
    EXPECT_EQ(Values(checkpoint, name), ExpectedValues(seed++, shape)) << name;
  };
  expect("model.embed_tokens.weight", {40, 32});
  for (const std::string prefix : {"model.layers.0.", "model.layers.1."}) {
    expect(prefix + "input_layernorm.weight", {32});
    expect(prefix + "self_attn.q_proj.weight", {32, 32});
    expect(prefix + "self_attn.k_proj.weight", {16, 32});
    expect(prefix + "self_attn.v_proj.weight", {16, 32});
    expect(prefix + "self_attn.o_proj.weight", {32, 32});
    expect(prefix + "post_attention_layernorm.weight", {32});
    expect(prefix + "mlp.gate_proj.weight", {48, 32});
    expect(prefix + "mlp.up_proj.weight", {48, 32});
    expect(prefix + "mlp.down_proj.weight", {32, 48});
  }
  expect("model.norm.weight", {32});
  expect("lm_head.weight", {40, 32});
  EXPECT_EQ(std::ssize(checkpoint.tensors()), seed);
}

TEST(ImportGguf, ModelWrittenByThePythonPackage) {
  const ScratchDirectory scratch;
  const fs::path directory = scratch.path() / "m";
  Import(kTinyModel, directory);
  const CheckpointReader checkpoint(directory);
  ExpectTinyWeights(checkpoint);
  const Json& config = checkpoint.config();
  EXPECT_EQ(config["num_key_value_heads"], 2);
  EXPECT_EQ(config["head_dim"], 8);
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);
  EXPECT_EQ(config["rope_theta"], 100000.0);
  EXPECT_EQ(config["rope_scaling"]["rope_type"], "linear");
  EXPECT_EQ(config["rope_scaling"]["factor"], 2.5);
  EXPECT_EQ(config["tie_word_embeddings"], false);
  EXPECT_EQ(config["vocab_size"], 40);
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  const Json generation = ReadJsonFile((directory / "generation_config.json").string());
  EXPECT_EQ(generation["bos_token_id"], 0);
  EXPECT_EQ(generation["eos_token_id"], 1);
  const Json tokenizer = ReadJsonFile((directory / "tokenizer_config.json").string());
  EXPECT_EQ(tokenizer["eos_token"], "</s>");
  EXPECT_EQ(tokenizer["chat_template"], "{{ messages }}");
  // "abc", then " c" as one piece, the user's token, and digits one by one.
  const Tokenizer encoder = Tokenizer::FromJson(scratch.Get("m/tokenizer.json"), "tokenizer.json");
  EXPECT_EQ(encoder.Encode("abc c<extra>12", SpecialTokens::kAdd),
            (std::vector<int32_t>{30, 4, 31, 29, 33, 34}));
}

TEST(ImportGguf, ShardsAreTheSameModel) {
  const ScratchDirectory scratch;
  ImportOptions options;
  options.max_shard_bytes = 6000;
  Import(kTinyModel, scratch.path() / "m", options);
  const CheckpointReader checkpoint(scratch.path() / "m");
  EXPECT_GT(checkpoint.files().size(), 5u);
  ExpectTinyWeights(checkpoint);
}

TEST(ImportGguf, KeepsAnExistingDirectoryUnlessToldOtherwise) {
  const ScratchDirectory scratch;
  const fs::path directory = scratch.path() / "m";
  Import(kTinyModel, directory);
  scratch.Put("m/mine", "1");
  ExpectError(ErrorCode::kInvalidArgument, "exists", [&] { Import(kTinyModel, directory); });
  EXPECT_EQ(scratch.Get("m/mine"), "1");
  ImportOptions options;
  options.existing = StagedDirectory::Existing::kReplace;
  ExpectError(ErrorCode::kInvalidArgument, "mine", [&] { Import(kTinyModel, directory, options); });
  EXPECT_EQ(scratch.Get("m/mine"), "1");
  fs::remove(directory / "mine");
  options.max_shard_bytes = 6000;
  Import(kTinyModel, directory, options);
  EXPECT_FALSE(fs::exists(directory / "model.safetensors"));
  EXPECT_EQ(scratch.Count(), 1);
}

TEST(ImportGguf, BiasesAreReorderedLikeTheirRowsAndHeadsMayBeWiderThanTheModel) {
  const ScratchDirectory scratch;
  Import(scratch.Put("f.gguf", WithBiases().Build()), scratch.path() / "m");
  const CheckpointReader checkpoint(scratch.path() / "m");
  EXPECT_EQ(checkpoint.config()["attention_bias"], true);
  EXPECT_EQ(checkpoint.config()["mlp_bias"], false);
  EXPECT_EQ(checkpoint.config()["head_dim"], 32);
  EXPECT_EQ(checkpoint.config()["tie_word_embeddings"], true);
  EXPECT_EQ(checkpoint.config()["rope_theta"], 10000.0);
  EXPECT_EQ(checkpoint.Find("lm_head.weight"), nullptr);
  // The hand-made bias counts rows in GGUF's order: even ones come first.
  const std::vector<float> query = Values(checkpoint, "model.layers.0.self_attn.q_proj.bias");
  const std::vector<float> value = Values(checkpoint, "model.layers.0.self_attn.v_proj.bias");
  for (std::size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(query[i], static_cast<float>(2 * i));
    EXPECT_EQ(query[16 + i], static_cast<float>(2 * i + 1));
    EXPECT_EQ(value[i], static_cast<float>(i));
  }
}

TEST(ImportGguf, RoundsToNearestEven) {
  const ScratchDirectory scratch;
  HandmadeModel model;
  model.F32("output_norm.weight", {4}, {1.00390625f, 1.01171875f, 1.00390637f, -1e-40f});
  Import(scratch.Put("f.gguf", model.Build()), scratch.path() / "m");
  const CheckpointReader checkpoint(scratch.path() / "m");
  EXPECT_EQ(Values(checkpoint, "model.norm.weight"),
            (std::vector<float>{1.0f, 1.015625f, 1.0078125f, ToFloat(ToBfloat16(-1e-40f))}));
}

// The factors as transformers computes them, for Llama 3.1's own numbers.
TEST(ImportGguf, Llama3RopeFactorsBecomeTheirConfig) {
  const ScratchDirectory scratch;
  for (const double factor : {8.0, 32.0}) {
    HandmadeModel model = WithBiases();
    model.Number("llama.rope.freq_base", 500000.0f);
    std::vector<float> factors;
    for (int i = 0; i < 16; ++i) {
      const double wavelength = 2 * M_PI * std::pow(500000.0, i / 16.0);
      const double smooth = (8192 / wavelength - 1) / 3;
      const double divisor = smooth > 1   ? 1
                             : smooth < 0 ? factor
                                          : 1 / ((1 - smooth) / factor + smooth);
      factors.push_back(static_cast<float>(divisor));
    }
    model.F32("rope_freqs.weight", {16}, factors);
    const std::string name = fmt::format("m{}", factor);
    Import(scratch.Put("f.gguf", model.Build()), scratch.path() / name);
    const CheckpointReader checkpoint(scratch.path() / name);
    const Json expected = {{"factor", factor},
                           {"high_freq_factor", 4.0},
                           {"low_freq_factor", 1.0},
                           {"original_max_position_embeddings", 8192},
                           {"rope_type", "llama3"}};
    EXPECT_EQ(checkpoint.config()["rope_scaling"], expected);
    EXPECT_EQ(checkpoint.Find("rope_freqs.weight"), nullptr);
    factors[8] *= 1.01f;
    model.F32("rope_freqs.weight", {16}, factors);
    ExpectError(ErrorCode::kUnsupported, "rope_freqs.weight",
                [&] { Import(scratch.Put("f.gguf", model.Build()), scratch.path() / "refused"); });
  }
}

// The real model: its tokens for the golden documents are those of Hugging Face's tokenizer.
TEST(ImportGguf, SmolLm2) {
  const char* gguf = std::getenv("NARROW_SMOLLM2_GGUF");
  if (gguf == nullptr) GTEST_SKIP() << "NARROW_SMOLLM2_GGUF does not name the GGUF file";
  const char* set = std::getenv("NARROW_SHARED_DIR");
  const fs::path shared = set != nullptr ? set : NARROW_SOURCE_DIR "/../shared";
  if (!fs::exists(shared / "golden")) GTEST_SKIP() << "no golden data; set NARROW_SHARED_DIR";
  const ScratchDirectory scratch;
  Import(gguf, scratch.path() / "m");
  const CheckpointReader checkpoint(scratch.path() / "m");
  EXPECT_EQ(checkpoint.tensors().size(), 272u);
  EXPECT_EQ(checkpoint.config()["tie_word_embeddings"], true);
  EXPECT_EQ(checkpoint.config()["rope_theta"], 100000.0);
  // Quark's scales are the largest magnitude over 448, in BF16.
  const Json scales = ReadJsonFile((shared / "golden/smollm2-135m/quark_scales.json").string());
  EXPECT_EQ(scales["scales"].size(), 210u);
  for (const auto& [module, scale] : scales["scales"].items()) {
    float amax = 0;
    for (const float value : Values(checkpoint, module + ".weight")) {
      amax = std::max(amax, std::abs(value));
    }
    EXPECT_EQ(ToFloat(ToBfloat16(amax / 448)), scale["weight_scale"].get<float>()) << module;
  }
  const Tokenizer tokenizer =
      Tokenizer::FromJson(scratch.Get("m/tokenizer.json"), "tokenizer.json");
  const Json golden =
      ReadJsonFile((shared / "golden/smollm2-135m/calibration_tokens.json").string());
  std::ifstream documents(shared / "data/text/pile_sample.jsonl");
  std::string line;
  for (const Json& expected : golden["samples"]) {
    ASSERT_TRUE(std::getline(documents, line));
    const std::string text = RequiredString(ParseJson(line, "document"), "text", "document");
    std::vector<int32_t> ids = tokenizer.Encode(text, SpecialTokens::kNone);
    ids.resize(std::min<std::size_t>(ids.size(), 512));
    ASSERT_EQ(Json(ids), expected);
  }
}

// Every number of another real model, and its tokens: transformers 5.19's reading of the same file,
// rounded to bf16; of each tensor the sum of its 16-bit patterns times their places, from 1.
TEST(ImportGguf, Gemma3) {
  const char* gguf = std::getenv("NARROW_GEMMA3_GGUF");
  if (gguf == nullptr) GTEST_SKIP() << "NARROW_GEMMA3_GGUF does not name the GGUF file";
  const ScratchDirectory scratch;
  Import(gguf, scratch.path() / "m");
  const CheckpointReader checkpoint(scratch.path() / "m");
  const Json rows = ReadJsonFile(NARROW_SOURCE_DIR "/src/import/testdata/gemma3-270m.json");
  EXPECT_EQ(checkpoint.tensors().size(), rows.size());
  for (const Json& row : rows) {
    const std::string name = row[0].get<std::string>();
    const CheckpointReader::TensorLocation& tensor = checkpoint.Get(name);
    ASSERT_EQ(tensor.entry.shape, row[1].get<Shape>()) << name;
    std::vector<uint16_t> bits(static_cast<std::size_t>(tensor.entry.bytes() / 2));
    checkpoint.Read(tensor, std::as_writable_bytes(std::span(bits)));
    uint64_t sum = 0;
    for (std::size_t i = 0; i < bits.size(); ++i) sum += bits[i] * uint64_t{i + 1};
    EXPECT_EQ(std::to_string(sum), row[2].get<std::string>()) << name;
  }
  const char* set = std::getenv("NARROW_SHARED_DIR");
  const fs::path shared = set != nullptr ? set : NARROW_SOURCE_DIR "/../shared";
  std::ifstream golden(shared / "golden/tokenizers/encode-more.jsonl");
  if (!golden) GTEST_SKIP() << "no golden tokens; set NARROW_SHARED_DIR";
  const Tokenizer tokenizer = Tokenizer::FromDirectory((scratch.path() / "m").string());
  for (std::string line; std::getline(golden, line);) {
    const Json row = ParseJson(line, "golden");
    EXPECT_EQ(Json(tokenizer.Encode(row["text"].get<std::string>(), SpecialTokens::kNone)),
              row["without_special"]["gemma-3"])
        << row["text"];
  }
  EXPECT_EQ(tokenizer.LeadingSpecialTokens(), (std::vector<int32_t>{2}));
}

}  // namespace
}  // namespace narrow
