// Checkpoints as they lie around: what other programs read out of them is what is computed here,
// and what is no checkpoint is refused with the name of what is there and the step that helps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "tests/cli/found_checkpoint.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kDown = "model.layers.1.mlp.down_proj.weight";
constexpr const char* kIndex = "model.safetensors.index.json";

using Tensors = std::vector<TinyTensor>;

void Erase(Tensors& tensors, std::string_view name) {
  std::erase_if(tensors, [&](const TinyTensor& tensor) { return tensor.name == name; });
}

TinyTensor Copy(Tensors& tensors, std::string_view from, const char* name) {
  TinyTensor copy = FindTensor(tensors, from);
  copy.name = name;
  return copy;
}

// A tensor like `name`, of other numbers.
TinyTensor Spoiled(Tensors& tensors, std::string_view name) {
  TinyTensor copy = FindTensor(tensors, name);
  for (int64_t i = 0; i < 64; ++i) SetElement(copy, i, 3.0f);
  return copy;
}

TEST_F(FoundCheckpoint, TheIndexDecidesBetweenTwoCopies) {
  const std::string expected = Perplexity(model());
  for (const bool overlay_counts : {true, false}) {
    Tensors tensors = TinyTensors({});
    const TinyTensor right = FindTensor(tensors, kDown);
    const TinyTensor wrong = Spoiled(tensors, kDown);
    Rewrite([&](Tensors& all) { FindTensor(all, kDown) = overlay_counts ? wrong : right; }, 2);
    WriteFile(
        model() / "overlay.safetensors",
        SafetensorsFile(std::vector{overlay_counts ? right : wrong,
                                    TinyTensor{"rotary_emb.inv_freq", Dtype::kF32, {1}, "abcd"}}));
    ChangeIndex([&](Json& index) {
      index["weight_map"]["rotary_emb.inv_freq"] = "overlay.safetensors";
      if (overlay_counts) index["weight_map"][kDown] = "overlay.safetensors";
    });
    const CommandResult result = Evaluate(model());
    EXPECT_EQ(result.output, expected) << result.error;
    EXPECT_THAT(result.error, HasSubstr("is stored twice"));
  }
}

TEST_F(FoundCheckpoint, TablesOfTheRotaryEmbeddingArePassedOver) {
  const std::string expected = Perplexity(model());
  for (const char* indexed : {"listed", "not listed", "listed and absent"}) {
    SCOPED_TRACE(indexed);
    std::vector<std::string> names;
    for (const char* table : {"inv_freq", "cos_cached", "sin_cached"}) {
      for (int layer = 0; layer < 2; ++layer) {
        names.push_back(fmt::format("model.layers.{}.self_attn.rotary_emb.{}", layer, table));
      }
      names.push_back(fmt::format("model.rotary_emb.{}", table));
    }
    Rewrite(
        [&](Tensors& tensors) {
          for (const std::string& name : names) {
            tensors.push_back({name, Dtype::kF32, {1, 2}, "garbage!"});
          }
        },
        2);
    if (indexed == std::string_view("not listed")) {
      ChangeIndex([&](Json& index) {
        for (const std::string& name : names) index["weight_map"].erase(name);
      });
    } else if (indexed == std::string_view("listed and absent")) {
      Rewrite([](Tensors&) {}, 2);
      ChangeIndex([&](Json& index) {
        for (const std::string& name : names) {
          index["weight_map"][name] = "model-00001-of-00002.safetensors";
        }
      });
    }
    EXPECT_EQ(Perplexity(model()), expected);
    ASSERT_EQ(Quantize({"--overwrite"}).status, 0);
    for (const auto& [name, tensor] : ReadTensors(output())) {
      EXPECT_THAT(name, Not(HasSubstr("rotary_emb")));
    }
    EXPECT_EQ(Inspect(model()).status, 0);
  }
}

TEST_F(FoundCheckpoint, AStoredHeadThatDiffersIsUsedAlthoughTheConfigTies) {
  const std::string expected = Perplexity(model());
  Set("tie_word_embeddings", true);
  for (const bool listed : {true, false}) {
    Rewrite([](Tensors&) {}, 2);
    if (!listed) ChangeIndex([](Json& index) { index["weight_map"].erase(kHead); });
    const CommandResult result = Evaluate(model());
    EXPECT_EQ(result.output, expected) << result.error;
    EXPECT_THAT(result.error, HasSubstr("\"tie_word_embeddings\": false"));
    const CommandResult inspected = Inspect(model());
    EXPECT_THAT(inspected.output, HasSubstr("lm_head.weight"));
    EXPECT_THAT(inspected.output, HasSubstr("\"tie_word_embeddings\": false"));

    const CommandResult quantized = Quantize({"--overwrite"});
    ASSERT_EQ(quantized.status, 0) << quantized.error;
    EXPECT_THAT(quantized.error, HasSubstr("\"tie_word_embeddings\": false"));
    const Json config = ReadJsonFile((output() / "config.json").string());
    EXPECT_EQ(config["tie_word_embeddings"], Json(false));
    Tensors tensors = TinyTensors({});
    EXPECT_EQ(ReadTensors(output()).at(kHead).bytes, FindTensor(tensors, kHead).bytes);
    EXPECT_THAT(Inspect(output()).output, HasSubstr("no problems found"));
  }
}

TEST_F(FoundCheckpoint, AHeadThatIsTheEmbeddingMayBeStoredUnderEitherNameOrBoth) {
  Set("tie_word_embeddings", true);
  Rewrite([](Tensors& tensors) { Erase(tensors, kHead); });
  const std::string expected = Perplexity(model());
  const auto both = [](Tensors& tensors) {
    FindTensor(tensors, kHead) = Copy(tensors, kEmbedding, kHead);
  };
  const auto head_alone = [&](Tensors& tensors) {
    both(tensors);
    Erase(tensors, kEmbedding);
  };
  for (const int64_t shards : {1, 2}) {
    for (const bool alone : {false, true}) {
      SCOPED_TRACE(fmt::format("{} shards, head alone: {}", shards, alone));
      if (shards == 1) fs::remove(model() / kIndex);
      Rewrite(alone ? std::function<void(Tensors&)>(head_alone) : both, shards);
      const CommandResult result = Evaluate(model());
      EXPECT_EQ(result.output, expected) << result.error;
      EXPECT_EQ(result.error.find("warning") != std::string::npos, alone) << result.error;
      ASSERT_EQ(Quantize({"--overwrite"}).status, 0);
      Tensors tensors = TinyTensors({});
      const auto stored = ReadTensors(output());
      EXPECT_EQ(stored.at(kEmbedding).bytes, FindTensor(tensors, kEmbedding).bytes);
      EXPECT_FALSE(stored.contains(kHead));
      EXPECT_EQ(ReadJsonFile((output() / "config.json").string())["tie_word_embeddings"],
                Json(true));
    }
  }
  // The index lists a head that the exporter left out.
  Rewrite([](Tensors& tensors) { Erase(tensors, kHead); }, 2);
  ChangeIndex([](Json& index) { index["weight_map"][kHead] = "model-00001-of-00002.safetensors"; });
  EXPECT_EQ(Perplexity(model()), expected);
}

TEST_F(FoundCheckpoint, AHeadThatIsNeitherStoredNorTiedIsRefusedWithTheMember) {
  for (const char* missing : {kHead, kEmbedding}) {
    Rewrite([&](Tensors& tensors) { Erase(tensors, missing); });
    for (const CommandResult& result : {Evaluate(model()), Quantize()}) {
      EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kCorruptInput));
      EXPECT_THAT(result.LastErrorLine(), HasSubstr(fmt::format("no tensor {}", missing)));
      EXPECT_THAT(result.LastErrorLine(), HasSubstr("\"tie_word_embeddings\": true"));
    }
    const CommandResult inspected = Inspect(model());
    EXPECT_EQ(inspected.status, static_cast<int>(ErrorCode::kCorruptInput));
    EXPECT_THAT(inspected.output, HasSubstr("\"tie_word_embeddings\": true"));
  }
}

struct Wrapping {
  const char* from;  // part of every name
  const char* to;
  const char* step;
};

TEST_F(FoundCheckpoint, WrappedNamesAreNamedWithTheStep) {
  const Wrapping cases[] = {
      {"", "base_model.model.", "merge_and_unload"},
      {"", "module.", "DataParallel"},
      {"", "_orig_mod.", "torch.compile"},
      {"model.", "model._orig_mod.", "torch.compile"},
      {"", "module._orig_mod.", "torch.compile"},
      {"", "_fsdp_wrapped_module.", "FSDP"},
      {"model.", "model.language_model.", "multimodal"},
      {"", "language_model.", "multimodal"},
      {"", "policy.", "begins with \"policy.\""},
      {"model.", "", "AutoModelForCausalLM"},
  };
  for (const Wrapping& c : cases) {
    SCOPED_TRACE(c.to);
    std::string embedding;
    Rewrite([&](Tensors& tensors) {
      for (TinyTensor& tensor : tensors) {
        if (!tensor.name.starts_with(c.from)) continue;
        tensor.name.replace(0, std::string_view(c.from).size(), c.to);
        if (tensor.name.ends_with("embed_tokens.weight")) embedding = tensor.name;
      }
    });
    for (const CommandResult& result : {Evaluate(model()), Quantize()}) {
      EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kCorruptInput));
      EXPECT_THAT(result.LastErrorLine(), HasSubstr("\"" + embedding + "\""));
      EXPECT_THAT(result.LastErrorLine(), HasSubstr(c.step));
    }
    EXPECT_THAT(Inspect(model()).output, HasSubstr(c.step));
  }
}

TEST_F(FoundCheckpoint, AnAdapterAmongTheWeightsIsNamed) {
  const char* name = "model.layers.0.self_attn.q_proj.lora_A.weight";
  Rewrite([&](Tensors& tensors) { tensors.push_back({name, Dtype::kF32, {1}, "abcd"}); });
  const CommandResult result = Evaluate(model());
  EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kCorruptInput));
  EXPECT_THAT(result.LastErrorLine(), HasSubstr(name));
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("merge_and_unload"));
}

// The scales of the output under the names of other tools.
TEST_F(FoundCheckpoint, CacheScalesOfOtherToolsMeanTheSame) {
  ASSERT_EQ(Quantize().status, 0);
  const std::string attention[] = {"model.layers.0.self_attn", "model.layers.1.self_attn"};
  const auto stored = ReadTensors(output());
  Tensors plain;
  for (const auto& [name, tensor] : stored) {
    const bool value = name.ends_with("self_attn.v_scale");
    const std::string twin = value ? name.substr(0, name.size() - 7) + "k_scale" : name;
    plain.push_back({name, tensor.dtype, tensor.shape, stored.at(twin).bytes});  // one for both
  }
  const auto evaluate = [&](const Tensors& tensors) {
    fs::remove(output() / kIndex);
    WriteWeights(output(), tensors, 1);
    return Evaluate(output());
  };
  const std::string expected = evaluate(plain).output;
  EXPECT_THAT(expected, HasSubstr("perplexity"));
  const auto renamed = [&](const std::string& key, const std::string& value) {
    Tensors tensors = plain;
    for (const std::string& module : attention) {
      FindTensor(tensors, module + ".k_scale").name = module + key;
      if (key == value) Erase(tensors, module + ".v_scale");
      if (key != value) FindTensor(tensors, module + ".v_scale").name = module + value;
    }
    return tensors;
  };
  for (const auto& [key, value] : {std::pair(".kv_scale", ".kv_scale"),
                                   std::pair(".k_proj.output_scale", ".v_proj.output_scale"),
                                   std::pair(".k_proj.k_scale", ".v_proj.v_scale"),
                                   std::pair(".qkv_proj.k_scale", ".qkv_proj.v_scale")}) {
    EXPECT_EQ(evaluate(renamed(key, value)).output, expected) << key;
    EXPECT_EQ(Inspect(output()).status, 0) << key;
  }
  // Scales of the probabilities are said to be unused.
  Tensors more = plain;
  for (const char* name : {".prob_output_scale", ".prob_scale"}) {
    more.push_back(Copy(more, attention[1] + ".k_scale", (attention[1] + name).c_str()));
  }
  const CommandResult result = evaluate(more);
  EXPECT_EQ(result.output, expected);
  EXPECT_THAT(result.error, HasSubstr("2 scales for attention in FP8"));
  EXPECT_THAT(Inspect(output()).output, HasSubstr("prob_scale"));
  // Two spellings at once, and one of a pair.
  Tensors twice = plain;
  twice.push_back(Copy(twice, attention[0] + ".k_scale", (attention[0] + ".kv_scale").c_str()));
  const CommandResult ambiguous = evaluate(twice);
  EXPECT_EQ(ambiguous.status, static_cast<int>(ErrorCode::kCorruptInput));
  EXPECT_THAT(ambiguous.LastErrorLine(), HasSubstr(attention[0] + ".kv_scale"));
  EXPECT_EQ(Inspect(output()).status, static_cast<int>(ErrorCode::kCorruptInput));
  Tensors half = plain;
  Erase(half, attention[0] + ".v_scale");
  EXPECT_EQ(evaluate(half).status, static_cast<int>(ErrorCode::kCorruptInput));
}

TEST_F(FoundCheckpoint, NullMetadataAndIndexesWithoutMetadataAreFine) {
  const std::string expected = Perplexity(model());
  const std::string file = ReadFile(model() / "model.safetensors");
  uint64_t length = 0;
  file.copy(reinterpret_cast<char*>(&length), sizeof length);
  std::string header = file.substr(8, length);
  const std::size_t old = header.find("\"__metadata__\"");
  if (old != std::string::npos) header.erase(old, header.find("},", old) + 2 - old);
  header.insert(1, R"("__metadata__":null,)");
  WriteFile(model() / "model.safetensors",
            SafetensorsFile(header, std::string_view(file).substr(8 + length)));
  EXPECT_EQ(Perplexity(model()), expected);
  for (const Json& metadata : {Json(), Json::object({{"total_size", 1}}), Json("text")}) {
    Rewrite([](Tensors&) {}, 3);
    ChangeIndex([&](Json& index) { index["metadata"] = metadata; });
    EXPECT_EQ(Perplexity(model()), expected);
    const CommandResult inspected = Inspect(model());
    EXPECT_EQ(inspected.status, 0) << inspected.output;
    EXPECT_THAT(inspected.output, HasSubstr("warning: the index"));
  }
}

}  // namespace
}  // namespace narrow
