#include "import/llama_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "import/dequantize.h"
#include "import/rope_scaling.h"
#include "io/json.h"

namespace narrow {
namespace {

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

// Keys that change the computation, with the value that leaves it as Hugging Face's Llama has it.
constexpr std::array<std::pair<std::string_view, double>, 9> kNeutral = {{
    {"llama.expert_count", 0},
    {"llama.attention.sliding_window", 0},
    {"llama.attention.clamp_kqv", 0},
    {"llama.attention.max_alibi_bias", 0},
    {"llama.attention.scale", 0},
    {"llama.logit_scale", 0},
    {"llama.embedding_scale", 0},
    {"llama.residual_scale", 0},
    {"llama.rope.scaling.attn_factor", 1},
}};

// GGUF tensors by name, those taken crossed out.
class Tensors {
 public:
  Tensors(const GgufHeader& header, const std::string& what) : what_(what) {
    for (const GgufTensor& tensor : header.tensors) by_name_.emplace(tensor.name, &tensor);
  }

  const std::string& what() const { return what_; }
  bool Has(const std::string& name) const { return by_name_.contains(name); }

  const GgufTensor* Take(const std::string& name, const Shape& shape) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) {
      Fail(ErrorCode::kCorruptInput, "{}: no tensor {}", what_, name);
    }
    const GgufTensor* tensor = found->second;
    if (tensor->shape != shape) {
      Fail(ErrorCode::kCorruptInput, "{}: {} has shape [{}]; the metadata says [{}]", what_, name,
           fmt::join(tensor->shape, ", "), fmt::join(shape, ", "));
    }
    if (!CanDequantize(tensor->type)) {
      Fail(ErrorCode::kUnsupported,
           "{}: {} is {}; take a file with F32, F16, BF16, Q4_0 to Q8_0 or Q2_K to Q6_K", what_,
           name, Info(tensor->type).name);
    }
    by_name_.erase(found);
    return tensor;
  }

  // Throws unless everything was taken.
  void ExpectNone() const {
    if (by_name_.empty()) return;
    std::string first = by_name_.begin()->first;
    for (const auto& [name, tensor] : by_name_) first = std::min(first, name);
    Fail(ErrorCode::kUnsupported, "{}: tensor {} has no place in a Llama model", what_,
         Quoted(first));
  }

 private:
  std::unordered_map<std::string, const GgufTensor*> by_name_;
  std::string what_;
};

int64_t PositiveInt(const GgufMetadata& metadata, std::string_view key) {
  const int64_t value = metadata.Int(key);
  if (value < 1 || value > INT32_MAX) {
    Fail(ErrorCode::kCorruptInput, "{}: {} is {}; expected 1 to {}", metadata.what(), key, value,
         INT32_MAX);
  }
  return value;
}

void CheckNeutral(const GgufMetadata& metadata) {
  for (const auto& [key, neutral] : kNeutral) {
    const double value = metadata.OptionalNumber(key).value_or(neutral);
    if (value == neutral) continue;
    Fail(ErrorCode::kUnsupported, "{}: {} is {}; a plain Llama model is expected", metadata.what(),
         key, value);
  }
}

void ReadAttention(const GgufMetadata& metadata, LlamaModel& model) {
  const std::string& what = metadata.what();
  model.heads = PositiveInt(metadata, "llama.attention.head_count");
  model.kv_heads = metadata.Has("llama.attention.head_count_kv")
                       ? PositiveInt(metadata, "llama.attention.head_count_kv")
                       : model.heads;
  if (model.heads % model.kv_heads != 0) {
    Fail(ErrorCode::kCorruptInput, "{}: {} heads cannot share {} key-value heads", what,
         model.heads, model.kv_heads);
  }
  if (metadata.Has("llama.attention.key_length")) {
    model.head_dim = PositiveInt(metadata, "llama.attention.key_length");
  } else if (model.hidden % model.heads == 0) {
    model.head_dim = model.hidden / model.heads;
  } else {
    Fail(ErrorCode::kCorruptInput, "{}: {} heads do not divide the embedding length {}", what,
         model.heads, model.hidden);
  }
  if (model.head_dim % 2 != 0) {
    Fail(ErrorCode::kCorruptInput, "{}: heads of {} elements cannot be rotated in pairs", what,
         model.head_dim);
  }
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    const int64_t length = metadata.OptionalInt(key).value_or(model.head_dim);
    if (length == model.head_dim) continue;
    Fail(ErrorCode::kUnsupported, "{}: {} is {}, the heads have {} elements", what, key, length,
         model.head_dim);
  }
}

int64_t VocabularySize(const GgufHeader& header, const std::string& what) {
  const auto found =
      std::find_if(header.tensors.begin(), header.tensors.end(),
                   [](const GgufTensor& tensor) { return tensor.name == "token_embd.weight"; });
  if (found == header.tensors.end()) {
    Fail(ErrorCode::kCorruptInput, "{}: no tensor token_embd.weight", what);
  }
  return found->shape.front();
}

struct MatrixRow {
  const char* gguf;
  const char* hugging_face;
  int64_t rows;
  int64_t columns;
  int64_t interleaved_rows;
  bool biased;
};

void MapLayer(int64_t layer, const LlamaModel& model, Tensors& tensors,
              std::vector<ImportedTensor>& mapped) {
  const std::string from = fmt::format("blk.{}.", layer);
  const std::string to = fmt::format("model.layers.{}.", layer);
  const int64_t q_rows = model.heads * model.head_dim;
  const int64_t kv_rows = model.kv_heads * model.head_dim;
  const bool attention_bias = model.attention_bias;
  const std::array<MatrixRow, 7> matrices = {{
      {"attn_q", "self_attn.q_proj", q_rows, model.hidden, model.head_dim, attention_bias},
      {"attn_k", "self_attn.k_proj", kv_rows, model.hidden, model.head_dim, attention_bias},
      {"attn_v", "self_attn.v_proj", kv_rows, model.hidden, 0, attention_bias},
      {"attn_output", "self_attn.o_proj", model.hidden, q_rows, 0, attention_bias},
      {"ffn_gate", "mlp.gate_proj", model.intermediate, model.hidden, 0, model.mlp_bias},
      {"ffn_up", "mlp.up_proj", model.intermediate, model.hidden, 0, model.mlp_bias},
      {"ffn_down", "mlp.down_proj", model.hidden, model.intermediate, 0, model.mlp_bias},
  }};
  const auto norm = [&](const char* gguf, const char* hugging_face) {
    mapped.push_back({to + hugging_face, tensors.Take(from + gguf, {model.hidden}), 0});
  };
  norm("attn_norm.weight", "input_layernorm.weight");
  norm("ffn_norm.weight", "post_attention_layernorm.weight");
  for (const MatrixRow& row : matrices) {
    const auto take = [&](const char* kind, const Shape& shape) {
      mapped.push_back({to + row.hugging_face + kind, tensors.Take(from + row.gguf + kind, shape),
                        row.interleaved_rows});
    };
    take(".weight", {row.rows, row.columns});
    if (!row.biased) continue;
    take(".bias", {row.rows});
    const GgufTensor& bias = *mapped.back().source;
    if (row.interleaved_rows > 0 && Info(bias.type).block_elements > 1) {
      Fail(ErrorCode::kUnsupported, "{}: {} is {}, whose blocks span several rows", tensors.what(),
           bias.name, Info(bias.type).name);
    }
  }
}

}  // namespace

LlamaModel ReadLlamaModel(const GgufHeader& header, const GgufMetadata& metadata) {
  const std::string architecture = metadata.String("general.architecture");
  if (architecture != "llama") {
    Fail(ErrorCode::kUnsupported, "{}: architecture {}; only llama is imported", metadata.what(),
         Quoted(architecture));
  }
  if (metadata.OptionalInt("split.count").value_or(1) > 1) {
    Fail(ErrorCode::kUnsupported, "{}: one file of a split set; join them with gguf-split --merge",
         metadata.what());
  }
  CheckNeutral(metadata);
  LlamaModel model;
  model.layers = PositiveInt(metadata, "llama.block_count");
  model.hidden = PositiveInt(metadata, "llama.embedding_length");
  model.intermediate = PositiveInt(metadata, "llama.feed_forward_length");
  model.context = PositiveInt(metadata, "llama.context_length");
  ReadAttention(metadata, model);
  model.rms_epsilon = metadata.Number("llama.attention.layer_norm_rms_epsilon");
  model.rope_theta = metadata.OptionalNumber("llama.rope.freq_base").value_or(10000.0);
  if (!(model.rms_epsilon > 0) || !(model.rope_theta > 1)) {
    Fail(ErrorCode::kCorruptInput, "{}: norm epsilon {} and rope base {} make no sense",
         metadata.what(), model.rms_epsilon, model.rope_theta);
  }
  model.linear_rope_factor = LinearRopeFactor(metadata);
  model.vocabulary = VocabularySize(header, metadata.what());
  const Tensors tensors(header, metadata.what());
  model.tied_embeddings = !tensors.Has("output.weight");
  model.attention_bias = tensors.Has("blk.0.attn_q.bias");
  model.mlp_bias = tensors.Has("blk.0.ffn_down.bias");
  return model;
}

std::vector<ImportedTensor> MapTensors(const GgufHeader& header, const LlamaModel& model,
                                       const std::string& what) {
  Tensors tensors(header, what);
  std::vector<ImportedTensor> mapped;
  const Shape embedding = {model.vocabulary, model.hidden};
  mapped.push_back({"model.embed_tokens.weight", tensors.Take("token_embd.weight", embedding), 0});
  for (int64_t layer = 0; layer < model.layers; ++layer) MapLayer(layer, model, tensors, mapped);
  mapped.push_back({"model.norm.weight", tensors.Take("output_norm.weight", {model.hidden}), 0});
  if (!model.tied_embeddings) {
    mapped.push_back({"lm_head.weight", tensors.Take("output.weight", embedding), 0});
  }
  const std::string factors(kRopeFactors);
  if (tensors.Has(factors)) tensors.Take(factors, {model.head_dim / 2});
  tensors.ExpectNone();
  return mapped;
}

const GgufTensor* FindRopeFactors(const GgufHeader& header, const LlamaModel& model,
                                  const std::string& what) {
  Tensors tensors(header, what);
  const std::string name(kRopeFactors);
  if (!tensors.Has(name)) return nullptr;
  const GgufTensor* factors = tensors.Take(name, {model.head_dim / 2});
  if (factors->type != GgufType::kF32) {
    Fail(ErrorCode::kUnsupported, "{}: {} is {}; expected F32", what, kRopeFactors,
         Info(factors->type).name);
  }
  return factors;
}

}  // namespace narrow
