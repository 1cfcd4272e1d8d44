// What the import refuses: one line, the right code, and nothing left behind.
#include <gtest/gtest.h>

#include <limits>

#include "import/gguf_import.h"
#include "import/handmade_model.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

void Import(const std::filesystem::path& gguf, const std::filesystem::path& directory) {
  SilentProgress progress;
  ImportGguf(gguf, directory, {}, progress);
}

struct Refusal {
  const char* name;
  HandmadeModel model;
  ErrorCode code;
  const char* fragment;
};
void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

class ImportRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(ImportRefuses, AndLeavesNothing) {
  const ScratchDirectory scratch;
  const std::filesystem::path file = scratch.Put("f.gguf", GetParam().model.Build());
  ExpectError(GetParam().code, GetParam().fragment, [&] { Import(file, scratch.path() / "m"); });
  ExpectError(GetParam().code, "f.gguf", [&] { Import(file, scratch.path() / "m"); });
  EXPECT_EQ(scratch.Count(), 1);
}

std::vector<Refusal> Refusals() {
  constexpr ErrorCode kCorrupt = ErrorCode::kCorruptInput;
  constexpr ErrorCode kNo = ErrorCode::kUnsupported;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const auto model = [] { return HandmadeModel(); };
  const auto sentence_piece = [] {
    return HandmadeModel()
        .Text("tokenizer.ggml.model", "llama")
        .Floats("tokenizer.ggml.scores", {0, 0, 0, 0});
  };
  return {
      {"Architecture", model().Text("general.architecture", "mamba"), kNo, "\"mamba\""},
      {"NoArchitecture", model().Without("general.architecture"), kCorrupt, "is missing"},
      {"NoLayers", model().Int("llama.block_count", 0), kCorrupt, "llama.block_count is 0"},
      {"HugeLayers", model().Int("llama.block_count", 1 << 30), kCorrupt, "blk.1."},
      {"TextForANumber", model().Text("llama.embedding_length", "4"), kCorrupt, "an integer"},
      {"HeadsPerLayer", model().Ints("llama.attention.head_count", {1}), kCorrupt, "an integer"},
      {"SharedHeads", model().Int("llama.attention.head_count_kv", 3), kCorrupt, "cannot share"},
      {"OddHeads", model().Int("llama.attention.key_length", 3), kCorrupt, "in pairs"},
      {"ValueLength", model().Int("llama.attention.value_length", 2), kNo, "value_length"},
      {"PartialRotation", model().Int("llama.rope.dimension_count", 2), kNo, "dimension_count"},
      {"Experts", model().Int("llama.expert_count", 8), kNo, "llama.expert_count"},
      {"SlidingWindow", model().Int("llama.attention.sliding_window", 4), kNo, "sliding_window"},
      {"SplitSetWithoutNumber", model().Int("split.count", 2), kCorrupt, "split.no is missing"},
      {"HugeSplitSet", model().Int("split.count", 1 << 30).Int("split.no", 0), kCorrupt,
       "at most 9999"},
      {"PartOfASplitSet", model().Int("split.count", 2).Int("split.no", 1),
       ErrorCode::kInvalidArgument, "part 2 of 2"},
      {"OtherScaling", model().Text("llama.rope.scaling.type", "ntk"), kNo, "\"ntk\""},
      {"YarnWithoutFactor", model().Text("llama.rope.scaling.type", "yarn"), kCorrupt,
       "llama.rope.scaling.factor is missing"},
      {"LongropeWithoutFactors", model().Text("llama.rope.scaling.type", "longrope"), kCorrupt,
       "original_context_length"},
      {"NanEpsilon", model().Number("llama.attention.layer_norm_rms_epsilon", kNan), kCorrupt,
       "finite"},
      {"MissingTensor", model().Without("blk.0.ffn_up.weight"), kCorrupt, "blk.0.ffn_up.weight"},
      {"NoEmbeddings", model().Without("token_embd.weight"), kCorrupt, "token_embd.weight"},
      {"WrongShape", model().F32("blk.0.attn_q.weight", {4, 8}), kCorrupt, "blk.0.attn_q.weight"},
      {"UnknownTensor", model().F32("blk.0.attn_q_norm.weight", {4}), kNo,
       "blk.0.attn_q_norm.weight"},
      {"BiasOnlyOfQ", model().F32("blk.0.attn_q.bias", {4}), kCorrupt, "attn_k.bias"},
      {"NumberType", model().Raw("blk.0.ffn_gate.weight", {4, 2}, GgufType::kI32, 32), kNo, "I32"},
      {"BlocksAcrossRows", WithBiases().Raw("blk.0.attn_k.bias", {32}, GgufType::kQ8_0, 34), kNo,
       "blocks span"},
      {"NotANumber", model().F32("blk.0.ffn_norm.weight", {4}, {1, kNan}), ErrorCode::kNumeric,
       "blk.0.ffn_norm.weight"},
      {"BeyondBf16", model().F32("output_norm.weight", {4}, {3.4e38f}), ErrorCode::kNumeric,
       "output_norm.weight"},
      {"TokenizerModel", model().Text("tokenizer.ggml.model", "bert"), kNo, "\"bert\""},
      {"PreTokenizer", model().Text("tokenizer.ggml.pre", "bloom"), kNo, "\"bloom\""},
      {"NoPreTokenizer", model().Without("tokenizer.ggml.pre"), kNo, "before April 2024"},
      {"DefaultPreTokenizer", model().Text("tokenizer.ggml.pre", "default"), kNo,
       "give --pre_tokenizer"},
      {"NoTokens", model().Without("tokenizer.ggml.tokens"), kCorrupt, "tokenizer.ggml.tokens"},
      {"NoMerges", model().Without("tokenizer.ggml.merges"), kCorrupt, "tokenizer.ggml.merges"},
      {"TokenCount",
       model()
           .Texts("tokenizer.ggml.tokens", {"a", "b", "ab"})
           .Ints("tokenizer.ggml.token_type", {1, 1, 1})
           .Int("tokenizer.ggml.eos_token_id", 0),
       kCorrupt, "3 tokens"},
      {"TypeCount", model().Ints("tokenizer.ggml.token_type", {1, 1}), kCorrupt, "token_type"},
      {"TokenTwice", model().Texts("tokenizer.ggml.tokens", {"a", "b", "a", "c"}), kCorrupt,
       "twice"},
      {"EmptyToken", model().Texts("tokenizer.ggml.tokens", {"a", "b", "", "c"}), kCorrupt,
       "empty"},
      {"BadUtf8", model().Texts("tokenizer.ggml.tokens", {"a", "b", "\xFF", "c"}), kCorrupt,
       "UTF-8"},
      {"TemplateUtf8", model().Text("tokenizer.chat_template", "\xC0\x80"), kCorrupt, "UTF-8"},
      {"UnknownMerge", model().Texts("tokenizer.ggml.merges", {"a z"}), kCorrupt, "f.gguf"},
      {"EosOutside", model().Int("tokenizer.ggml.eos_token_id", 4), kCorrupt, "eos_token_id is 4"},
      {"NoBosToAdd", model().Bool("tokenizer.ggml.add_bos_token", 1), kCorrupt, "beginning"},
      {"NanScore", sentence_piece().Floats("tokenizer.ggml.scores", {0, 0, kNan, 0}), kCorrupt,
       "not finite"},
      {"ScoreCount", sentence_piece().Floats("tokenizer.ggml.scores", {0}), kCorrupt, "scores"},
  };
}

INSTANTIATE_TEST_SUITE_P(ImportGguf, ImportRefuses, testing::ValuesIn(Refusals()),
                         [](const auto& refusal) { return std::string(refusal.param.name); });

TEST(ImportGguf, RefusesAnAbsentFile) {
  const ScratchDirectory scratch;
  ExpectError(ErrorCode::kNotFound, "absent.gguf",
              [&] { Import(scratch.path() / "absent.gguf", scratch.path() / "m"); });
  EXPECT_EQ(scratch.Count(), 0);
}

}  // namespace
}  // namespace narrow
