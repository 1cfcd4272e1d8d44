#include "tests/support/tiny_model.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>

#include "base/error.h"
#include "io/safetensors.h"
#include "tensor/scalar_types.h"
#include "tests/support/random.h"
#include "text/byte_level.h"

namespace narrow {
namespace {

// FNV-1a, so that a tensor's values depend on its name and not on the others.
uint64_t Hash(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

template <typename Bits>
void AppendBits(std::string& bytes, Bits bits) {
  char raw[sizeof bits];
  std::memcpy(raw, &bits, sizeof bits);
  bytes.append(raw, sizeof bits);
}

void AppendValue(Dtype dtype, float value, std::string& bytes) {
  switch (dtype) {
    case Dtype::kBF16:
      return AppendBits(bytes, ToBfloat16(value).bits);
    case Dtype::kF16:
      return AppendBits(bytes, ToFloat16(value).bits);
    case Dtype::kF32:
      return AppendBits(bytes, std::bit_cast<uint32_t>(value));
    default:
      NARROW_CHECK(false);
  }
}

class TensorMaker {
 public:
  explicit TensorMaker(const TinyModel& model) : model_(model) {}

  // Values around `mean`.
  void Add(const std::string& name, const Shape& shape, float mean, float deviation) {
    Random random(model_.seed ^ Hash(name));
    int64_t count = 1;
    for (const int64_t dimension : shape) count *= dimension;
    TinyTensor tensor{name, model_.dtype, shape, ""};
    for (int64_t i = 0; i < count; ++i) {
      AppendValue(model_.dtype, mean + deviation * random.Normal(), tensor.bytes);
    }
    tensors_.push_back(std::move(tensor));
  }

  void AddLinear(const std::string& module, int64_t rows, int64_t columns,
                 TinyModel::Presence bias) {
    // Matrices of one group get different ranges, so that sharing a scale makes a difference.
    const float spread = 0.7f + 0.1f * static_cast<float>(Hash(module) % 7);
    Add(module + ".weight", {rows, columns}, 0.0f, spread / std::sqrt(static_cast<float>(columns)));
    if (bias == TinyModel::Presence::kPresent) Add(module + ".bias", {rows}, 0.0f, 0.1f);
  }

  void AddLayer(int64_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const int64_t queries = model_.heads * model_.head_size;
    const int64_t keys = model_.key_value_heads * model_.head_size;
    Add(prefix + "input_layernorm.weight", {model_.hidden}, 1.0f, 0.1f);
    Add(prefix + "post_attention_layernorm.weight", {model_.hidden}, 1.0f, 0.1f);
    AddLinear(prefix + "self_attn.q_proj", queries, model_.hidden, model_.attention_bias);
    AddLinear(prefix + "self_attn.k_proj", keys, model_.hidden, model_.attention_bias);
    AddLinear(prefix + "self_attn.v_proj", keys, model_.hidden, model_.attention_bias);
    AddLinear(prefix + "self_attn.o_proj", model_.hidden, queries, model_.attention_bias);
    AddLinear(prefix + "mlp.gate_proj", model_.intermediate, model_.hidden, model_.mlp_bias);
    AddLinear(prefix + "mlp.up_proj", model_.intermediate, model_.hidden, model_.mlp_bias);
    AddLinear(prefix + "mlp.down_proj", model_.hidden, model_.intermediate, model_.mlp_bias);
  }

  std::vector<TinyTensor> Take() { return std::move(tensors_); }

 private:
  const TinyModel& model_;
  std::vector<TinyTensor> tensors_;
};

std::string_view DtypeWord(Dtype dtype) {
  return dtype == Dtype::kBF16 ? "bfloat16" : dtype == Dtype::kF16 ? "float16" : "float32";
}

void AddRope(const TinyModel& model, Json& config) {
  constexpr double kTheta = 10000.0;
  Json scaling = Json::object();
  if (model.rope == TinyModel::Rope::kLinear) {
    scaling = {{"rope_type", "linear"}, {"factor", 2.0}};
  } else if (model.rope == TinyModel::Rope::kLlama3) {
    scaling = {{"rope_type", "llama3"},
               {"factor", 8.0},
               {"low_freq_factor", 1.0},
               {"high_freq_factor", 4.0},
               {"original_max_position_embeddings", 128}};
  }
  if (model.spelling == TinyModel::Spelling::kTransformers5) {
    if (scaling.empty()) scaling["rope_type"] = "default";
    scaling["rope_theta"] = kTheta;
    config["rope_parameters"] = scaling;
    return;
  }
  config["rope_theta"] = kTheta;
  config["rope_scaling"] = scaling.empty() ? Json(nullptr) : scaling;
}

std::string Header(const std::vector<TinyTensor>& tensors) {
  Json header = Json::object();
  int64_t offset = 0;
  for (const TinyTensor& tensor : tensors) {
    const int64_t end = offset + std::ssize(tensor.bytes);
    header[tensor.name] = {
        {"dtype", Name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  return header.dump();
}

}  // namespace

std::vector<TinyTensor> TinyTensors(const TinyModel& model) {
  TensorMaker maker(model);
  maker.Add("model.embed_tokens.weight", {model.vocabulary, model.hidden}, 0.0f, 1.0f);
  for (int64_t layer = 0; layer < model.layers; ++layer) maker.AddLayer(layer);
  maker.Add("model.norm.weight", {model.hidden}, 1.0f, 0.1f);
  if (model.lm_head == TinyModel::Presence::kPresent) {
    maker.Add("lm_head.weight", {model.vocabulary, model.hidden}, 0.0f, 0.2f);
  }
  return maker.Take();
}

TinyTensor& FindTensor(std::vector<TinyTensor>& tensors, std::string_view name) {
  for (TinyTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  Fail(ErrorCode::kInternal, "the tiny model has no tensor {}", name);
}

void SetElement(TinyTensor& tensor, int64_t index, float value) {
  NARROW_CHECK(tensor.dtype == Dtype::kBF16 || tensor.dtype == Dtype::kF32);
  std::string bytes;
  AppendValue(tensor.dtype, value, bytes);
  tensor.bytes.replace(static_cast<std::size_t>(index) * bytes.size(), bytes.size(), bytes);
}

Json TinyConfig(const TinyModel& model) {
  Json config = Json::object();
  config["architectures"] = {"LlamaForCausalLM"};
  config["attention_bias"] = model.attention_bias == TinyModel::Presence::kPresent;
  config["bos_token_id"] = 256;
  config["eos_token_id"] = 257;
  config["hidden_act"] = "silu";
  config["hidden_size"] = model.hidden;
  config["intermediate_size"] = model.intermediate;
  config["max_position_embeddings"] = 4096;
  config["mlp_bias"] = model.mlp_bias == TinyModel::Presence::kPresent;
  config["model_type"] = "llama";
  config["num_attention_heads"] = model.heads;
  config["num_hidden_layers"] = model.layers;
  config["num_key_value_heads"] = model.key_value_heads;
  config["rms_norm_eps"] = 1e-5;
  config["tie_word_embeddings"] = model.lm_head == TinyModel::Presence::kAbsent;
  config["vocab_size"] = model.vocabulary;
  const bool current = model.spelling == TinyModel::Spelling::kTransformers5;
  config[current ? "dtype" : "torch_dtype"] = DtypeWord(model.dtype);
  if (current || model.head_size * model.heads != model.hidden) {
    config["head_dim"] = model.head_size;
  }
  AddRope(model, config);
  return config;
}

std::string ByteTokenizer() {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[std::string(ByteLevelCharacter(static_cast<uint8_t>(byte)))] = byte;
  }
  Json added = Json::array();
  for (const auto& [id, content] : {std::pair(256, "<|begin|>"), std::pair(257, "<|end|>")}) {
    added.push_back({{"id", id},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  Json tokenizer = ParseJson(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": null,
    "post_processor": {
      "type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
      "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [256], "tokens": ["<|begin|>"]}}},
    "decoder": null,
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
      "vocab": {}, "merges": []}})",
                             "the tokenizer of the tiny model");
  tokenizer["added_tokens"] = added;
  tokenizer["pre_tokenizer"] = byte_level;
  tokenizer["decoder"] = byte_level;
  tokenizer["model"]["vocab"] = vocabulary;
  return tokenizer.dump(1);
}

std::string SafetensorsFile(std::string_view header, std::string_view data) {
  std::string file;
  AppendBits(file, static_cast<uint64_t>(header.size()));
  file += header;
  file += data;
  return file;
}

std::string SafetensorsFile(const std::vector<TinyTensor>& tensors) {
  std::string data;
  for (const TinyTensor& tensor : tensors) data += tensor.bytes;
  return SafetensorsFile(Header(tensors), data);
}

void WriteWeights(const std::filesystem::path& directory, const std::vector<TinyTensor>& tensors,
                  int64_t shards) {
  if (shards == 1) {
    WriteFile(directory / "model.safetensors", SafetensorsFile(tensors));
    return;
  }
  std::vector<std::vector<TinyTensor>> files(static_cast<std::size_t>(shards));
  Json map = Json::object();
  int64_t total = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::size_t file = i % files.size();
    files[file].push_back(tensors[i]);
    map[tensors[i].name] = fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, shards);
    total += std::ssize(tensors[i].bytes);
  }
  for (std::size_t file = 0; file < files.size(); ++file) {
    WriteFile(directory / fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, shards),
              SafetensorsFile(files[file]));
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  WriteFile(directory / "model.safetensors.index.json", index.dump(1));
}

void WriteTinyModel(const std::filesystem::path& directory, const TinyModel& model) {
  std::filesystem::create_directories(directory);
  WriteWeights(directory, TinyTensors(model), model.shards);
  WriteFile(directory / "config.json", TinyConfig(model).dump(1));
  WriteFile(directory / "tokenizer.json", ByteTokenizer());
  WriteFile(directory / "tokenizer_config.json", R"({"bos_token": "<|begin|>"})");
  WriteFile(directory / "generation_config.json", R"({"eos_token_id": 257})");
  WriteFile(directory / "LICENSE", "You may do with this model whatever you like.\n");
}

void WriteFile(const std::filesystem::path& path, std::string_view contents) {
  std::ofstream file(path, std::ios::binary);
  file << contents;
  if (!file.flush()) Fail(ErrorCode::kIo, "{}: cannot be written", path.string());
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail(ErrorCode::kNotFound, "{}: cannot be read", path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace narrow
