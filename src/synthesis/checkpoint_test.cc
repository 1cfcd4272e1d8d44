#include "synthesis/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/interrupt.h"
#include "base/parallel.h"
#include "io/scratch_directory.h"
#include "model/loaded_layer.h"
#include "model/model_source.h"
#include "model/rope.h"
#include "synthesis/presets.h"
#include "synthesis/weights.h"
#include "text/token_stream.h"

namespace narrow {
namespace {

SynthesizeRequest TinyRequest(const ScratchDirectory& scratch) {
  SynthesizeRequest request;
  request.output_directory = scratch.path() / "model";
  request.config = PresetConfig("tiny");
  request.config_name = "preset tiny";
  return request;
}

SynthesizeResult MakeModel(const SynthesizeRequest& request) {
  SilentProgress progress;
  return RunSynthesize(request, progress);
}

std::vector<std::byte> TensorBytes(const CheckpointReader& checkpoint, const std::string& name) {
  const CheckpointReader::TensorLocation& location = checkpoint.Get(name);
  std::vector<std::byte> bytes(static_cast<std::size_t>(location.entry.bytes()));
  checkpoint.Read(location, bytes);
  return bytes;
}

TEST(Synthesize, MakesACheckpointThatLoads) {
  const ScratchDirectory scratch;
  const SynthesizeRequest request = TinyRequest(scratch);
  const SynthesizeResult result = MakeModel(request);
  EXPECT_EQ(result.layers, 2);
  EXPECT_EQ(result.tensors, 3 + 2 * 9);
  const ModelSource model = OpenModel(request.output_directory, WeightState::kOriginal);
  EXPECT_EQ(model.config.vocabulary, 512);
  const Tokenizer tokenizer = Tokenizer::FromDirectory(request.output_directory.string());
  EXPECT_LE(tokenizer.vocabulary_size(), model.config.vocabulary);
  EXPECT_EQ(RequiredInt(model.checkpoint->config(), "bos_token_id", "config"), 256);
  EXPECT_EQ(scratch.Count(), 1);  // nothing beside it
}

TEST(Synthesize, MakesTiedModelsAndBiases) {
  const ScratchDirectory scratch;
  SynthesizeRequest request = TinyRequest(scratch);
  request.config["tie_word_embeddings"] = true;
  request.config["attention_bias"] = true;
  request.config["mlp_bias"] = true;
  request.config["torch_dtype"] = "float16";  // what is written is BF16
  request.max_shard_bytes = 100'000;
  EXPECT_EQ(MakeModel(request).tensors, 2 + 2 * 16);
  const ModelSource model = OpenModel(request.output_directory, WeightState::kOriginal);
  EXPECT_EQ(model.config.dtype, Dtype::kBF16);
  EXPECT_EQ(model.checkpoint->Find("lm_head.weight"), nullptr);
  EXPECT_GT(model.checkpoint->files().size(), 1u);
}

TEST(Synthesize, FewerLayersAreTheFirstOnes) {
  const ScratchDirectory scratch;
  SynthesizeRequest request = TinyRequest(scratch);
  request.config["num_hidden_layers"] = 3;
  MakeModel(request);
  const ModelSource whole = OpenModel(request.output_directory, WeightState::kOriginal);
  request.output_directory = scratch.path() / "part";
  request.layers = 1;
  EXPECT_EQ(MakeModel(request).layers, 1);
  const ModelSource part = OpenModel(request.output_directory, WeightState::kOriginal);
  EXPECT_EQ(RequiredInt(part.checkpoint->config(), "num_hidden_layers", "config"), 1);
  EXPECT_EQ(part.config.layers, 1);
  for (const CheckpointReader::TensorLocation& tensor : part.checkpoint->tensors()) {
    const std::string& name = tensor.entry.name;
    EXPECT_TRUE(TensorBytes(*part.checkpoint, name) == TensorBytes(*whole.checkpoint, name))
        << name;
  }
}

TEST(Synthesize, CopiesATokenizerThatFits) {
  const ScratchDirectory scratch;
  SynthesizeRequest request = TinyRequest(scratch);
  MakeModel(request);
  const ScratchDirectory tokenizer;
  std::filesystem::copy(request.output_directory / "tokenizer.json", tokenizer.path());
  tokenizer.Put("special_tokens_map.json", "{}");
  tokenizer.Put("notes.txt", "not of the tokenizer");
  request.output_directory = scratch.path() / "second";
  request.tokenizer_directory = tokenizer.path();
  MakeModel(request);
  EXPECT_EQ(ReadWholeFile(request.output_directory / "tokenizer.json", 1 << 20),
            tokenizer.Get("tokenizer.json"));
  EXPECT_TRUE(std::filesystem::exists(request.output_directory / "special_tokens_map.json"));
  EXPECT_FALSE(std::filesystem::exists(request.output_directory / "notes.txt"));
  EXPECT_FALSE(std::filesystem::exists(request.output_directory / "tokenizer_config.json"));
  request.config["vocab_size"] = 257;
  request.output_directory = scratch.path() / "third";
  ExpectError(ErrorCode::kInvalidArgument, "258 tokens", [&] { MakeModel(request); });
}

TEST(Synthesize, PresetsAreThePublishedModels) {
  // Parameters as the model cards and the safetensors indexes give them.
  const std::pair<const char*, int64_t> expected[] = {{"llama-3.1-405b", 405'853'388'800},
                                                      {"llama-3.1-70b", 70'553'706'496},
                                                      {"llama-3.1-8b", 8'030'261'248}};
  for (const auto& [name, parameters] : expected) {
    const Json json = PresetConfig(name);
    const ModelFamily& family = FindModelFamily(json, name);
    const DecoderConfig config = family.parse_config(json, name);
    int64_t layer = 0;
    const LayerSpec spec = family.layer(config, 0);
    for (const LinearSpec& linear : spec.linears) layer += linear.rows * linear.columns;
    for (const NamedShape& tensor : SmallTensors(spec)) layer += tensor.shape.front();
    EXPECT_EQ(2 * config.vocabulary * config.hidden + config.hidden + config.layers * layer,
              parameters)
        << name;
    EXPECT_EQ(config.heads.head_size, 128);
    EXPECT_EQ(config.rope.kind, RopeConfig::Kind::kLlama3);
    EXPECT_EQ(config.rope.original_positions, 8192);
  }
}

TEST(Synthesize, RefusesAndLeavesNothing) {
  const ScratchDirectory scratch;
  const auto refuse = [&](ErrorCode code, std::string_view fragment, auto&& change) {
    SynthesizeRequest request = TinyRequest(scratch);
    change(request);
    ExpectError(code, fragment, [&] { MakeModel(request); });
    EXPECT_EQ(scratch.Count(), 0);
  };
  using Request = SynthesizeRequest;
  refuse(ErrorCode::kCorruptInput, "expected an object",
         [](Request& r) { r.config = Json::array(); });
  refuse(ErrorCode::kUnsupported, "GPT2LMHeadModel",
         [](Request& r) { r.config["architectures"] = {"GPT2LMHeadModel"}; });
  refuse(ErrorCode::kCorruptInput, "hidden_size",
         [](Request& r) { r.config["hidden_size"] = -64; });
  refuse(ErrorCode::kUnsupported, "already quantized",
         [](Request& r) { r.config["quantization_config"] = Json::object(); });
  refuse(ErrorCode::kInvalidArgument, "vocab_size is 100",
         [](Request& r) { r.config["vocab_size"] = 100; });
  refuse(ErrorCode::kInvalidArgument, "layers", [](Request& r) { r.layers = -1; });
  refuse(ErrorCode::kCorruptInput, "num_hidden_layers", [](Request& r) { r.layers = 1 << 20; });
  refuse(ErrorCode::kInvalidArgument, "shard size", [](Request& r) { r.max_shard_bytes = 0; });
  const ScratchDirectory empty;
  refuse(ErrorCode::kNotFound, "tokenizer.json",
         [&](Request& r) { r.tokenizer_directory = empty.path(); });
  refuse(ErrorCode::kInvalidArgument, "must lie apart",
         [&](Request& r) { r.tokenizer_directory = scratch.path(); });
  refuse(ErrorCode::kIo, "make room", [](Request& r) {
    r.config["hidden_size"] = 1 << 24;
    r.config["vocab_size"] = 1 << 24;
    r.config["num_attention_heads"] = 1 << 12;
    r.config["num_key_value_heads"] = 1 << 12;
  });
}

TEST(Synthesize, AStopLeavesNothing) {
  const ScratchDirectory scratch;
  RequestStop(2);
  ExpectError(ErrorCode::kInterrupted, "SIGINT", [&] { MakeModel(TinyRequest(scratch)); });
  RequestStop(0);
  EXPECT_EQ(scratch.Count(), 0);
}

// Mean squares of the channels of each group's inputs.
class ChannelSizes final : public LayerObserver {
 public:
  void OnInput(LinearGroup group, int64_t, ConstOperands shown) override {
    const MatrixView<const float> rows = shown.As<float>();
    const std::lock_guard lock(mutex_);
    std::vector<double>& sums = sums_[static_cast<std::size_t>(group)];
    sums.resize(static_cast<std::size_t>(rows.columns));
    for (int64_t r = 0; r < rows.rows; ++r) {
      for (std::size_t c = 0; c < sums.size(); ++c) {
        sums[c] += static_cast<double>(rows.Row(r)[c]) * rows.Row(r)[c];
      }
    }
  }
  void OnQueries(int64_t, ConstOperands) override {}
  void OnKeys(int64_t, ConstOperands) override {}
  void OnValues(int64_t, ConstOperands) override {}

  // A channel's size against that of the median one.
  double Ratio(LinearGroup group, int64_t channel) const {
    std::vector<double> sums = sums_[static_cast<std::size_t>(group)];
    const double size = sums[static_cast<std::size_t>(channel)];
    std::ranges::nth_element(sums, sums.begin() + static_cast<int64_t>(sums.size()) / 2);
    return std::sqrt(size / sums[sums.size() / 2]);
  }

 private:
  std::mutex mutex_;
  std::array<std::vector<double>, kLinearGroupCount> sums_;
};

double RootMeanSquare(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

TEST(Synthesize, ActivationsStayRealisticThrough126Layers) {
  SetThreadCount(1);  // the products are so small that threads would only wait for each other
  const ScratchDirectory scratch;
  SynthesizeRequest request = TinyRequest(scratch);
  request.layers = 126;
  MakeModel(request);
  const ModelSource model = OpenModel(request.output_directory, WeightState::kOriginal);
  const DecoderConfig& config = model.config;
  constexpr int64_t kTokens = 64;
  const std::vector<float> embedding = ReadFloats(*model.checkpoint, "model.embed_tokens.weight");
  HiddenStates hidden(kTokens, config.hidden);
  std::copy_n(embedding.begin(), kTokens * config.hidden, hidden.data.data());
  EXPECT_NEAR(RootMeanSquare(hidden.data.span()), 0.02, 0.005);
  const RopeTables rope(LayersOf(*model.family, config), kTokens);
  const Sequence sequences[] = {{0, kTokens}};
  BatchWorkspace workspace;
  double previous = 0.02;
  std::array<double, kLinearGroupCount> logarithms = {};  // of the outlier channel's ratio
  for (int64_t i = 0; i < config.layers; ++i) {
    const LoadedLayer layer(OpenLayer(*model.checkpoint, SourceSchemes(*model.checkpoint),
                                      model.family->layer(config, i), 1 << 30),
                            ComputeType::kFloat32);
    ChannelSizes sizes;
    ForwardLayer(layer.runnable(), rope, sequences, hidden.view(), workspace, &sizes);
    const double size = RootMeanSquare(hidden.data.span());
    ASSERT_LT(size, previous + 0.25) << "layer " << i;
    previous = size;
    for (const LinearGroup group : kLinearGroups) {
      const int64_t width =
          group == LinearGroup::kDown ? config.intermediate : config.hidden;  // heads too: 4 of 16
      const int64_t channel = OutlierChannels(request.seed, "", width).front().channel;
      logarithms[static_cast<std::size_t>(group)] += std::log(sizes.Ratio(group, channel));
    }
  }
  // Factors of 10 to 20; the geometric mean over the layers cancels most of the channels' own
  // spread.
  for (const LinearGroup group : kLinearGroups) {
    const double ratio =
        std::exp(logarithms[static_cast<std::size_t>(group)] / static_cast<double>(config.layers));
    const bool outlier = group != LinearGroup::kAttentionOutput;
    EXPECT_GT(ratio, outlier ? 10.0 : 0.5) << static_cast<int>(group);
    EXPECT_LT(ratio, outlier ? 20.0 : 2.0) << static_cast<int>(group);
  }
  EXPECT_GT(previous, 0.2);
  EXPECT_LT(previous, 2.0);
}

}  // namespace
}  // namespace narrow
