// What a checkpoint becomes: which tensors, of which type and shape, in which order, and what is
// written into them.
#include "stream/output_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "io/file.h"
#include "io/scratch_directory.h"
#include "model/model_source.h"
#include "synthesis/checkpoint.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

using testing::ElementsAre;

std::string LastPart(const std::string& module) { return module.substr(module.rfind('.') + 1); }

const LinearSpec& LinearOf(const LayerSpec& layer, WeightRole role) {
  const auto linear = std::ranges::find(layer.linears, role, &LinearSpec::role);
  EXPECT_NE(linear, layer.linears.end());
  return *linear;
}

// A tiny model of two layers with biases in both blocks, its head its own or tied.
class OutputCheckpointTest : public testing::Test {
 protected:
  OutputCheckpointTest() { quantization_.scheme = &FindQuantizationScheme("fp8"); }

  void Open(bool tied) {
    SynthesizeRequest request;
    request.output_directory = scratch_.path() / "model";
    request.config = PresetConfig("tiny");
    request.config["attention_bias"] = request.config["mlp_bias"] = true;
    request.config["tie_word_embeddings"] = tied;
    request.config_name = "tiny with biases";
    SilentProgress progress;
    RunSynthesize(request, progress);
    model_ = OpenModel(request.output_directory, WeightState::kOriginal);
  }
  LayerSpec Layer(int64_t i) const { return model_.family->layer(model_.config, i); }
  ModelSpec Outside() const { return model_.family->model(model_.config); }

  // With a limit of one byte each tensor has a shard of its own, in the order of the plan.
  OutputCheckpoint Make(std::string_view format, int64_t max_shard_bytes = 1) {
    std::filesystem::create_directory(Output());
    return {*model_.checkpoint,
            *model_.family,
            model_.config,
            quantization_,
            {&FindExportFormat(format), max_shard_bytes},
            Output()};
  }
  std::filesystem::path Output() const { return scratch_.path() / "output"; }

  // The byte that codes of a linear are filled with.
  static std::byte CodeOf(const LinearSpec& linear) {
    return static_cast<std::byte>(linear.module.size() + static_cast<std::size_t>(linear.role));
  }
  LayerFacts FactsOf(const LayerSpec& layer) const {
    LayerFacts facts;
    float scale = 0.25f;
    for (const LinearSpec& linear : layer.linears) {
      if (quantization_.excluded.contains(linear.module)) continue;
      LinearFacts& fact = facts.linears.emplace_back();
      fact.module = linear.module;
      fact.weight_scale = scale;
      fact.input_scale = scale + 0.125f;
      scale += 0.25f;
    }
    if (quantization_.cache == CacheScheme::kFp8) {
      facts.cache = CacheFacts{layer.attention_module, 0, 16.0f, 0, 32.0f, 0, 8.0f};
    }
    return facts;
  }
  void WriteLayer(OutputCheckpoint& output, int64_t i) const {
    const LayerSpec layer = Layer(i);
    output.Copy(layer.Norm(NormPlace::kBeforeAttention)->weight, nullptr);
    output.Copy(layer.Norm(NormPlace::kBeforeMlp)->weight, nullptr);
    for (const LinearSpec& linear : layer.linears) {
      if (linear.bias == Bias::kPresent) output.Copy(linear.bias_name(), nullptr);
      if (quantization_.excluded.contains(linear.module)) {
        output.Copy(linear.weight(), nullptr);
        continue;
      }
      const int64_t half = linear.rows / 2;  // codes come in runs of rows
      std::vector<std::byte> codes(static_cast<std::size_t>(half * linear.columns), CodeOf(linear));
      output.WriteCodes(linear, 0, codes);
      codes.resize(static_cast<std::size_t>((linear.rows - half) * linear.columns), CodeOf(linear));
      output.WriteCodes(linear, half, codes);
    }
    output.WriteScales(layer, FactsOf(layer));
  }
  void WriteRest(OutputCheckpoint& output) const {
    output.Copy(Outside().final_norm.weight, nullptr);
    if (Outside().lm_head != Outside().embedding) output.Copy(Outside().lm_head, nullptr);
  }

  // Tensors as the plan should have them.
  std::vector<TensorSpec> Expected(std::string_view format) const {
    std::vector<TensorSpec> tensors;
    const auto same = [&](const std::string& name) {
      const SafetensorsEntry& entry = model_.checkpoint->Get(name).entry;
      tensors.push_back({name, entry.dtype, entry.shape});
    };
    const auto scale = [&](const std::string& name) { tensors.push_back({name, Dtype::kF32, {}}); };
    same(Outside().embedding);
    for (int64_t i = 0; i < model_.config.layers; ++i) {
      const LayerSpec layer = Layer(i);
      same(layer.Norm(NormPlace::kBeforeAttention)->weight);
      for (const LinearSpec& linear : layer.linears) {
        if (quantization_.excluded.contains(linear.module)) {
          same(linear.weight());
        } else {
          tensors.push_back({linear.weight(), Dtype::kF8E4M3, {linear.rows, linear.columns}});
          scale(linear.module + ".weight_scale");
          scale(linear.module + ".input_scale");
        }
        same(linear.bias_name());
      }
      if (quantization_.cache == CacheScheme::kFp8) {
        const bool quark = format == "quark";
        scale(quark ? LinearOf(layer, WeightRole::kQuery).module + ".output_scale"
                    : layer.attention_module + ".q_scale");
        scale(quark ? LinearOf(layer, WeightRole::kKey).module + ".output_scale"
                    : layer.attention_module + ".k_scale");
        scale(quark ? LinearOf(layer, WeightRole::kValue).module + ".output_scale"
                    : layer.attention_module + ".v_scale");
      }
      same(layer.Norm(NormPlace::kBeforeMlp)->weight);
    }
    same(Outside().final_norm.weight);
    if (Outside().lm_head != Outside().embedding) same(Outside().lm_head);
    return tensors;
  }

  // What was written, from its shards; `bytes` holds what each tensor holds.
  std::vector<SafetensorsEntry> Found(std::map<std::string, std::string>* bytes) const {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(Output())) {
      if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
    }
    std::ranges::sort(paths);
    std::vector<SafetensorsEntry> found;
    for (const std::filesystem::path& path : paths) {
      const InputFile file(path);
      for (const SafetensorsEntry& entry : ReadSafetensorsHeader(file).entries) {
        std::string contents(static_cast<std::size_t>(entry.bytes()), '\0');
        file.ReadAt(entry.begin, std::as_writable_bytes(std::span(contents)));
        (*bytes)[entry.name] = std::move(contents);
        found.push_back(entry);
      }
    }
    return found;
  }
  std::string Stored(const std::string& name) const {
    const CheckpointReader::TensorLocation& tensor = model_.checkpoint->Get(name);
    std::string bytes(static_cast<std::size_t>(tensor.entry.bytes()), '\0');
    model_.checkpoint->Read(tensor, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }
  static std::string BytesOf(float scale) {
    return {reinterpret_cast<const char*>(&scale), sizeof(scale)};
  }

  void ExpectPlan(std::string_view format) {
    std::filesystem::remove_all(Output());
    OutputCheckpoint output = Make(format);
    output.Copy(Outside().embedding, nullptr);
    for (int64_t i = 0; i < model_.config.layers; ++i) WriteLayer(output, i);
    WriteRest(output);
    output.Finish();

    std::map<std::string, std::string> bytes;
    const std::vector<SafetensorsEntry> found = Found(&bytes);
    const std::vector<TensorSpec> expected = Expected(format);
    ASSERT_EQ(found.size(), expected.size());
    int64_t total = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      SCOPED_TRACE(expected[i].name);
      EXPECT_EQ(found[i].name, expected[i].name);
      EXPECT_EQ(found[i].dtype, expected[i].dtype);
      EXPECT_EQ(found[i].shape, expected[i].shape);
      total += expected[i].bytes();
      const bool kept =
          model_.checkpoint->Find(found[i].name) != nullptr && found[i].dtype != Dtype::kF8E4M3;
      if (kept) {
        EXPECT_EQ(bytes[found[i].name], Stored(found[i].name));
      }
    }
    EXPECT_EQ(output.total_tensor_bytes(), total);
    for (int64_t i = 0; i < model_.config.layers; ++i) ExpectLayer(format, i, bytes);
  }
  void ExpectLayer(std::string_view format, int64_t i, std::map<std::string, std::string>& bytes) {
    const LayerSpec layer = Layer(i);
    const LayerFacts facts = FactsOf(layer);
    for (const LinearFacts& fact : facts.linears) {
      SCOPED_TRACE(fact.module);
      const auto& linear = *std::ranges::find(layer.linears, fact.module, &LinearSpec::module);
      EXPECT_EQ(bytes[linear.weight()],
                std::string(static_cast<std::size_t>(linear.rows * linear.columns),
                            static_cast<char>(CodeOf(linear))));
      EXPECT_EQ(bytes[fact.module + ".weight_scale"], BytesOf(fact.weight_scale));
      EXPECT_EQ(bytes[fact.module + ".input_scale"], BytesOf(fact.input_scale));
    }
    if (!facts.cache) return;
    const AttentionScaleTensors scales = FindExportFormat(format).attention_scale_tensors(
        {layer.attention_module, LinearOf(layer, WeightRole::kQuery).module,
         LinearOf(layer, WeightRole::kKey).module, LinearOf(layer, WeightRole::kValue).module});
    EXPECT_EQ(bytes[scales.query_scale.name], BytesOf(facts.cache->query_scale));
    EXPECT_EQ(bytes[scales.key_scale.name], BytesOf(facts.cache->key_scale));
    EXPECT_EQ(bytes[scales.value_scale.name], BytesOf(facts.cache->value_scale));
  }

  ScratchDirectory scratch_;
  ModelSource model_;
  LayerQuantizationOptions quantization_;
};

TEST_F(OutputCheckpointTest, EveryTensorIsPlannedInOrderAndFilled) {
  Open(/*tied=*/false);
  const std::vector<std::set<std::string>> exclusions = {
      {},
      {LinearOf(Layer(0), WeightRole::kDown).module, LinearOf(Layer(1), WeightRole::kQuery).module,
       LinearOf(Layer(1), WeightRole::kKey).module, LinearOf(Layer(1), WeightRole::kValue).module}};
  for (const ExportFormat& format : ExportFormats()) {
    for (const CacheScheme cache : {CacheScheme::kNone, CacheScheme::kFp8}) {
      for (const std::set<std::string>& excluded : exclusions) {
        // Matrices that share a scale have the same tensors as those that do not.
        for (const WeightScales scales : {WeightScales::kPerMatrix, WeightScales::kPerFusedGroup}) {
          quantization_.cache = cache;
          quantization_.excluded = excluded;
          quantization_.weight_scales = scales;
          ExpectPlan(format.name);
        }
      }
    }
  }
}

TEST_F(OutputCheckpointTest, ATiedHeadIsNoTensorOfItsOwn) {
  Open(/*tied=*/true);
  ASSERT_EQ(Outside().lm_head, Outside().embedding);
  ExpectPlan("fp8");
}

TEST_F(OutputCheckpointTest, SaysWhatItWillHold) {
  Open(/*tied=*/false);
  const LayerSpec layer = Layer(0);
  const auto pattern = [&](WeightRole role) {
    return "*" + LastPart(LinearOf(layer, role).module);
  };
  const std::string excluded = LinearOf(Layer(1), WeightRole::kAttentionOutput).module;
  quantization_.excluded = {excluded};
  quantization_.min_cache_scale = 0.5f;
  quantization_.weight_scales = WeightScales::kPerMatrix;
  const auto describe = [&] {
    return DescribeOutput(*model_.family, model_.config, quantization_);
  };
  QuantizedCheckpointDescription description = describe();
  EXPECT_TRUE(description.own_head);
  EXPECT_EQ(description.architecture, model_.family->architecture);
  EXPECT_EQ(description.model_dtype, "bfloat16");
  EXPECT_EQ(description.min_kv_scale, 0.5);
  EXPECT_THAT(description.excluded_linears, ElementsAre(excluded, Outside().lm_head_module));
  EXPECT_EQ(description.linears.size(), 2 * layer.linears.size() - 1);
  EXPECT_EQ(description.linears[0].name, layer.linears[0].module);
  EXPECT_EQ(description.linears[0].out_features, layer.linears[0].rows);
  EXPECT_EQ(description.linears[0].in_features, layer.linears[0].columns);
  EXPECT_FALSE(description.weight_merge_groups);
  EXPECT_EQ(description.kv_cache, KvCacheQuantization::kNone);
  EXPECT_TRUE(description.attention.empty() && description.cache_patterns.empty());

  quantization_.weight_scales = WeightScales::kPerFusedGroup;
  quantization_.cache = CacheScheme::kFp8;
  description = describe();
  ASSERT_TRUE(description.weight_merge_groups);
  EXPECT_THAT(*description.weight_merge_groups,
              ElementsAre(ElementsAre(pattern(WeightRole::kUp), pattern(WeightRole::kGate)),
                          ElementsAre(pattern(WeightRole::kQuery), pattern(WeightRole::kKey),
                                      pattern(WeightRole::kValue))));
  EXPECT_EQ(description.kv_cache, KvCacheQuantization::kFp8);
  EXPECT_THAT(description.cache_patterns,
              ElementsAre(pattern(WeightRole::kKey), pattern(WeightRole::kValue)));
  ASSERT_EQ(description.attention.size(), 2u);
  EXPECT_EQ(description.attention[1].name, Layer(1).attention_module);
  EXPECT_EQ(description.attention[1].key_projection, LinearOf(Layer(1), WeightRole::kKey).module);
  EXPECT_EQ(description.attention[1].value_projection,
            LinearOf(Layer(1), WeightRole::kValue).module);
  for (const auto& [dtype, name] :
       {std::pair(Dtype::kF16, "float16"), std::pair(Dtype::kF32, "float32")}) {
    model_.config.dtype = dtype;
    EXPECT_EQ(describe().model_dtype, name);
  }
}

// A run that continues writes what the one before did not, and nothing twice.
TEST_F(OutputCheckpointTest, WhatAnEarlierRunWroteIsTakenOver) {
  Open(/*tied=*/false);
  quantization_.cache = CacheScheme::kFp8;
  constexpr int64_t kShardBytes = 40'000;  // a few shards, with tensors of both runs in one
  {
    OutputCheckpoint first = Make("fp8", kShardBytes);
    first.Copy(Outside().embedding, nullptr);
    WriteLayer(first, 0);
    first.Flush();
    ExpectError(ErrorCode::kInternal, "was never written completely", [&] { first.Finish(); });
  }
  OutputCheckpoint second = Make("fp8", kShardBytes);
  second.AssumeWritten(1);
  ExpectError(ErrorCode::kInternal, Outside().embedding,
              [&] { second.Copy(Outside().embedding, nullptr); });
  ExpectError(ErrorCode::kInternal, Layer(0).Norm(NormPlace::kBeforeMlp)->weight,
              [&] { second.Copy(Layer(0).Norm(NormPlace::kBeforeMlp)->weight, nullptr); });
  WriteLayer(second, 1);
  ExpectError(ErrorCode::kInternal, "was never written completely", [&] { second.Finish(); });
  WriteRest(second);
  second.Finish();
  std::map<std::string, std::string> resumed, whole;
  Found(&resumed);
  std::filesystem::remove_all(Output());
  OutputCheckpoint once = Make("fp8", kShardBytes);
  once.Copy(Outside().embedding, nullptr);
  WriteLayer(once, 0);
  WriteLayer(once, 1);
  WriteRest(once);
  once.Finish();
  Found(&whole);
  EXPECT_EQ(resumed, whole);

  std::filesystem::remove_all(Output());
  OutputCheckpoint lost = Make("fp8", kShardBytes);
  ExpectError(ErrorCode::kCorruptInput, "is missing, though a saved state says",
              [&] { lost.AssumeWritten(1); });
}

TEST_F(OutputCheckpointTest, WhatIsCopiedIsSeenOnTheWay) {
  Open(/*tied=*/false);
  OutputCheckpoint output = Make("fp8");
  const std::string name = Outside().embedding;
  const int64_t rows = model_.config.vocabulary;
  std::string seen;
  int64_t next = 0;
  const OutputCheckpoint::ChunkTap tap = [&](int64_t first_row, std::span<const std::byte> chunk) {
    EXPECT_EQ(first_row, next);
    seen.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
    next += std::ssize(chunk) / (model_.config.hidden * 2);
  };
  output.CopyRows(name, {0, 100}, tap);
  output.CopyRows(name, {100, 0}, tap);
  output.CopyRows(name, {100, rows - 100}, tap);
  EXPECT_EQ(next, rows);
  EXPECT_EQ(seen, Stored(name));
  const std::string norm = Outside().final_norm.weight;
  const std::string bytes = Stored(norm);
  const auto part = std::as_bytes(std::span(bytes));
  output.WriteUnchanged(norm, 0, part.first(10));
  ExpectError(ErrorCode::kInternal, norm, [&] { output.WriteUnchanged(norm, 0, part); });
  output.WriteUnchanged(norm, 10, part.subspan(10));
  std::map<std::string, std::string> written;
  Found(&written);
  EXPECT_EQ(written[name], Stored(name));
  EXPECT_EQ(written[norm], bytes);
}

}  // namespace
}  // namespace narrow
