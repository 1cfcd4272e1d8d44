// Checkpoints as they lie around: what other programs read out of them is what is computed here,
// and what is no checkpoint is refused with the name of what is there and the step that helps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::Not;

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kDown = "model.layers.1.mlp.down_proj.weight";
constexpr const char* kIndex = "model.safetensors.index.json";

using Tensors = std::vector<TinyTensor>;

class FoundCheckpoint : public testing::Test {
 protected:
  FoundCheckpoint() {
    std::string text;
    for (int i = 0; i < 40; ++i) text += fmt::format("Line {} of the text, {}.\n", i, i * i);
    WriteFile(scratch_.path() / "text.txt", text);
    WriteTinyModel(model(), {});
  }

  fs::path model() const { return scratch_.path() / "model"; }
  fs::path output() const { return scratch_.path() / "output"; }

  CommandResult Evaluate(const fs::path& directory) const {
    return RunNarrow({"evaluate", "--model_dir", directory.string(), "--eval_data",
                      (scratch_.path() / "text.txt").string(), "--window_tokens", "64",
                      "--eval_windows", "4", "--eval_window_order", "first", "--data_type",
                      "float32"});
  }
  std::string Perplexity(const fs::path& directory) const {
    const CommandResult result = Evaluate(directory);
    EXPECT_EQ(result.status, 0) << result.error;
    return result.output;
  }
  CommandResult Quantize(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"--skip_evaluation", "--num_calib_data", "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunNarrow(QuantizeArguments(model().string(), output().string(), arguments));
  }
  CommandResult Inspect(const fs::path& directory) const {
    return RunNarrow({"inspect", directory.string()});
  }

  // Writes the weights again in `shards` files, after a change.
  void Rewrite(const std::function<void(Tensors&)>& change, int64_t shards = 1) const {
    Tensors tensors = TinyTensors({});
    change(tensors);
    fs::remove(model() / "model.safetensors");
    WriteWeights(model(), tensors, shards);
  }
  void Set(const char* key, const Json& value) const {
    Json config = ReadJsonFile((model() / "config.json").string());
    config[key] = value;
    WriteFile(model() / "config.json", config.dump());
  }
  void ChangeIndex(const std::function<void(Json&)>& change) const {
    Json index = ReadJsonFile((model() / kIndex).string());
    change(index);
    WriteFile(model() / kIndex, index.dump());
  }

  const ScratchDirectory scratch_;
};

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
  // Scales for attention in FP8 are said to be unused.
  Tensors more = plain;
  for (const char* name :
       {".q_scale", ".prob_output_scale", ".prob_scale", ".q_proj.output_scale"}) {
    more.push_back(Copy(more, attention[1] + ".k_scale", (attention[1] + name).c_str()));
  }
  const CommandResult result = evaluate(more);
  EXPECT_EQ(result.output, expected);
  EXPECT_THAT(result.error, HasSubstr("4 scales for attention in FP8"));
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

TEST_F(FoundCheckpoint, ATokenizerInAnotherFormIsNamedWithTheStep) {
  fs::remove(model() / "tokenizer.json");
  const int not_found = static_cast<int>(ErrorCode::kNotFound);
  EXPECT_THAT(Inspect(model()).output, HasSubstr("no tokenizer"));
  for (const char* name : {"tokenizer.model", "vocab.json", "tiktoken.model"}) {
    WriteFile(model() / name, "x");
    WriteFile(scratch_.path() / "lines.jsonl", "{\"text\":\"a\"}\n");
    for (const CommandResult& result :
         {Evaluate(model()), Quantize(),
          RunNarrow({"tokenize", "--model_dir", model().string(), "--input_file",
                     (scratch_.path() / "lines.jsonl").string()})}) {
      EXPECT_EQ(result.status, not_found);
      EXPECT_THAT(result.LastErrorLine(), HasSubstr(name));
      EXPECT_THAT(result.LastErrorLine(), HasSubstr("save_pretrained"));
    }
    EXPECT_THAT(Inspect(model()).output, HasSubstr(name));
    fs::remove(model() / name);
  }
}

TEST_F(FoundCheckpoint, AnAdapterBesideTheModelIsNamedAndLeftBehind) {
  WriteFile(model() / "adapter_config.json", R"({"base_model_name_or_path":"acme/base"})");
  WriteFile(model() / "adapter_model.safetensors", "any");
  for (const CommandResult& result : {Evaluate(model()), Quantize()}) {
    EXPECT_EQ(result.status, 0);
    EXPECT_THAT(result.error, HasSubstr("warning: adapter_config.json"));
    EXPECT_THAT(result.error, HasSubstr("acme/base"));
  }
  EXPECT_FALSE(fs::exists(output() / "adapter_config.json"));
  EXPECT_FALSE(fs::exists(output() / "adapter_model.safetensors"));
  EXPECT_THAT(Inspect(model()).output, HasSubstr("adapter_config.json"));
}

TEST_F(FoundCheckpoint, FittedHeadsAreSaidToSpoilAdapters) {
  WriteFile(model() / "adapter_config.json", "{}");
  for (const char* basis : {"fitted", "none"}) {
    const bool fitted = basis == std::string_view("fitted");
    const CommandResult result = Quantize({"--overwrite", "--head_basis", basis});
    ASSERT_EQ(result.status, 0) << result.error;
    EXPECT_EQ(result.error.find("use --head_basis none") != std::string::npos, fitted);
    for (const char* name : {"README.md", "report.html"}) {
      const std::string text = ReadFile(output() / name);
      EXPECT_EQ(text.find("LoRA adapter trained for the original") != std::string::npos, fitted);
    }
    const CommandResult inspected = Inspect(output());
    EXPECT_EQ(inspected.output.find("note: made with --head_basis fitted") != std::string::npos,
              fitted)
        << inspected.output;
    EXPECT_THAT(inspected.output, HasSubstr("no problems found"));
    for (const char* name : {"narrow-report.json", "narrow-output.json"}) {
      EXPECT_THAT(ReadFile(output() / name),
                  HasSubstr(fmt::format("\"head_basis\": \"{}\"", basis)))
          << name;
    }
  }
  EXPECT_THAT(RunNarrow({"quantize", "--help"}).output, HasSubstr("LoRA"));
}

// Links like those of a Hugging Face cache, with the blobs at `blobs`.
void LinkToBlobs(const fs::path& model, const fs::path& blobs, const fs::path& link_prefix) {
  fs::create_directories(blobs);
  int64_t number = 0;
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(model)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  for (const fs::path& file : files) {
    const std::string digest = fmt::format("{:064x}", ++number);
    fs::rename(file, blobs / digest);
    fs::path up;
    if (link_prefix.is_relative() && file.parent_path() != model) up = "..";
    fs::create_symlink(up / link_prefix / digest, file);
  }
}

TEST_F(FoundCheckpoint, EverythingAServerNeedsComesOutOfACache) {
  fs::create_directories(model() / "additional_chat_templates");
  WriteFile(model() / "additional_chat_templates" / "tool_use.jinja", "{{ tools }}");
  WriteFile(model() / "chat_template.jinja", "{{ messages }}");
  ASSERT_EQ(Quantize().status, 0);
  const std::set<std::string> expected = Names(output());
  EXPECT_THAT(expected, IsSupersetOf({"tokenizer.json", "tokenizer_config.json", "LICENSE",
                                      "generation_config.json", "chat_template.jinja",
                                      "additional_chat_templates"}));
  const fs::path snapshot = scratch_.path() / "cache/models--acme--tiny/snapshots/0123";
  fs::create_directories(snapshot.parent_path());
  fs::rename(model(), snapshot);
  LinkToBlobs(snapshot, snapshot.parent_path().parent_path() / "blobs", "../../blobs");
  const auto check = [&](const fs::path& directory) {
    const CommandResult result =
        RunNarrow(QuantizeArguments(directory.string(), output().string(),
                                    {"--skip_evaluation", "--num_calib_data", "4", "--overwrite"}));
    ASSERT_EQ(result.status, 0) << result.error;
    EXPECT_THAT(result.error, Not(HasSubstr("symbolic")));
    EXPECT_EQ(Names(output()), expected);
    for (const auto& entry : fs::recursive_directory_iterator(output())) {
      EXPECT_FALSE(entry.is_symlink()) << entry.path();
    }
    EXPECT_EQ(ReadFile(output() / "additional_chat_templates" / "tool_use.jinja"), "{{ tools }}");
    EXPECT_EQ(ReadFile(output() / "tokenizer.json"), ByteTokenizer());
    EXPECT_THAT(Inspect(output()).output, HasSubstr("no problems found"));
  };
  check(snapshot);
  // Linked again from another folder: links to links.
  const fs::path again = scratch_.path() / "again";
  fs::create_directories(again / "additional_chat_templates");
  for (const auto& entry : fs::directory_iterator(snapshot)) {
    if (entry.is_directory() && !entry.is_symlink()) continue;
    fs::create_symlink(entry.path(), again / entry.path().filename());
  }
  fs::create_symlink(snapshot / "additional_chat_templates/tool_use.jinja",
                     again / "additional_chat_templates/tool_use.jinja");
  check(again);
  // The blobs are moved to another disk, and a link stands in their place.
  const fs::path blobs = snapshot.parent_path().parent_path() / "blobs";
  fs::rename(blobs, scratch_.path() / "disk");
  fs::create_directory_symlink(scratch_.path() / "disk", blobs);
  check(snapshot);
  // A directory link to the snapshot.
  fs::create_directory_symlink(snapshot, scratch_.path() / "link");
  check(scratch_.path() / "link");
}

TEST_F(FoundCheckpoint, LinksThatLeadNowhereEndTheJobBeforeWork) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "config.json",
                           "model.safetensors", "generation_config.json"}) {
    const fs::path kept = scratch_.path() / "kept";
    fs::rename(model() / name, kept);
    fs::create_symlink("../../blobs/gone", model() / name);
    const CommandResult result = Quantize();
    EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kNotFound)) << name;
    EXPECT_THAT(result.LastErrorLine(), HasSubstr(name));
    EXPECT_THAT(result.LastErrorLine(), HasSubstr("../../blobs/gone"));
    EXPECT_FALSE(fs::exists(output()));
    fs::remove(model() / name);
    fs::rename(kept, model() / name);
  }
}

TEST_F(FoundCheckpoint, LinksToAnotherFolderAreFollowedUnderNamesThatServersRead) {
  const fs::path cache = scratch_.path() / "cache";
  fs::rename(model(), cache);
  fs::create_directory(model());
  for (const auto& entry : fs::directory_iterator(cache)) {
    fs::create_symlink("../cache" / entry.path().filename(), model() / entry.path().filename());
  }
  WriteFile(scratch_.path() / "secret", "secret");
  fs::create_symlink("../secret", model() / "notes.txt");
  const CommandResult result = Quantize();
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(Names(output()),
              IsSupersetOf({"tokenizer.json", "tokenizer_config.json", "LICENSE"}));
  EXPECT_FALSE(fs::exists(output() / "notes.txt"));
  EXPECT_THAT(result.error, HasSubstr("outside of the model directory"));
  EXPECT_THAT(result.error, HasSubstr("notes.txt"));
  EXPECT_THAT(Inspect(output()).output, HasSubstr("no problems found"));
}

}  // namespace
}  // namespace narrow
