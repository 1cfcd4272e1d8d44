#include "import/gguf_model.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

constexpr std::string_view kRopeFactors = "rope_freqs.weight";
constexpr std::string_view kShortFactors = "rope_factors_short.weight";
constexpr std::string_view kLongFactors = "rope_factors_long.weight";

// Keys that change the computation, with the value that leaves it as it is without them.
constexpr std::array<std::pair<std::string_view, double>, 13> kNeutral = {{
    {"expert_count", 0},
    {"attention.sliding_window", 0},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.scale", 0},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"logit_scale", 0},
    {"embedding_scale", 0},
    {"residual_scale", 0},
    {"rope.scaling.attn_factor", 1},
    {"rope.scaling.yarn_log_multiplier", 0},
    {"nextn_predict_layers", 0},
}};

int64_t PositiveInt(const GgufMetadata& metadata, const std::string& key) {
  const int64_t value = metadata.Int(key);
  if (value < 1 || value > INT32_MAX) {
    Fail(ErrorCode::kCorruptInput, "{}: {} is {}; expected 1 to {}", metadata.what(), key, value,
         INT32_MAX);
  }
  return value;
}

void CheckNeutral(const GgufMetadata& metadata, const GgufModel& model) {
  for (const auto& [name, neutral] : kNeutral) {
    if (std::ranges::count(model.architecture->keys, name) > 0) continue;
    const std::string key = model.Key(name);
    const double value = metadata.OptionalNumber(key).value_or(neutral);
    if (value == neutral) continue;
    Fail(ErrorCode::kUnsupported, "{}: {} is {}; a plain {} model is expected", metadata.what(),
         key, value, model.architecture->hugging_face);
  }
}

void ReadHeads(const GgufMetadata& metadata, GgufModel& model) {
  const std::string& what = metadata.what();
  model.heads = PositiveInt(metadata, model.Key("attention.head_count"));
  const std::string kv_heads = model.Key("attention.head_count_kv");
  model.kv_heads = metadata.Has(kv_heads) ? PositiveInt(metadata, kv_heads) : model.heads;
  if (model.heads % model.kv_heads != 0) {
    Fail(ErrorCode::kCorruptInput, "{}: {} heads cannot share {} key-value heads", what,
         model.heads, model.kv_heads);
  }
  const std::string length = model.Key("attention.key_length");
  if (metadata.Has(length)) {
    model.head_dim = PositiveInt(metadata, length);
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
}

void ReadRotation(const GgufMetadata& metadata, GgufModel& model) {
  const auto of_head = [&](std::string_view name) {
    const int64_t length = metadata.OptionalInt(model.Key(name)).value_or(model.head_dim);
    const bool partial = std::ranges::count(model.architecture->keys, name) > 0;
    if (length == model.head_dim ||
        (partial && length > 0 && length < model.head_dim && length % 2 == 0)) {
      return length;
    }
    Fail(ErrorCode::kUnsupported, "{}: {} is {}, the heads have {} elements", metadata.what(),
         model.Key(name), length, model.head_dim);
  };
  of_head("attention.value_length");
  model.rotated = of_head("rope.dimension_count");
  model.rope_theta = metadata.OptionalNumber(model.Key("rope.freq_base")).value_or(10000.0);
}

int64_t VocabularySize(const GgufTensors& tensors) {
  const GgufTensor* embedding = tensors.Find("token_embd.weight");
  if (embedding == nullptr) {
    Fail(ErrorCode::kCorruptInput, "{}: no tensor token_embd.weight", tensors.what());
  }
  return embedding->shape.front();
}

// A linear of a layer: names without ".weight".
struct Linear {
  std::string_view gguf;
  std::string_view hugging_face;
  int64_t rows;
  int64_t columns;
  int64_t interleaved_rows = 0;
  bool biased = false;
};

std::vector<Linear> Linears(const GgufModel& model) {
  using Architecture = GgufArchitecture;
  const Architecture& architecture = *model.architecture;
  const int64_t hidden = model.hidden;
  const int64_t wide = model.intermediate;
  const int64_t q = model.heads * model.head_dim;
  const int64_t kv = model.kv_heads * model.head_dim;
  const int64_t paired = architecture.rows == Architecture::Rows::kPaired ? model.head_dim : 0;
  const bool bias = model.attention_bias;
  const bool output_bias = bias && architecture.output_bias == Architecture::OutputBias::kAsOthers;
  std::vector<Linear> linears;
  if (architecture.attention == Architecture::Attention::kFused) {
    linears.push_back({"attn_qkv", "self_attn.qkv_proj", q + 2 * kv, hidden, 0, bias});
  } else {
    linears.push_back({"attn_q", "self_attn.q_proj", q, hidden, paired, bias});
    linears.push_back({"attn_k", "self_attn.k_proj", kv, hidden, paired, bias});
    linears.push_back({"attn_v", "self_attn.v_proj", kv, hidden, 0, bias});
  }
  linears.push_back({"attn_output", "self_attn.o_proj", hidden, q, 0, output_bias});
  const bool mlp_bias = model.mlp_bias;
  const auto two = [&](std::string_view up, std::string_view down, int64_t rows) {
    linears.push_back({"ffn_up", up, rows, hidden, 0, mlp_bias});
    linears.push_back({"ffn_down", down, hidden, wide, 0, mlp_bias});
  };
  switch (architecture.mlp) {
    case Architecture::Mlp::kGated:
      linears.push_back({"ffn_gate", "mlp.gate_proj", wide, hidden, 0, mlp_bias});
      two("mlp.up_proj", "mlp.down_proj", wide);
      break;
    case Architecture::Mlp::kFusedGate:
      two("mlp.gate_up_proj", "mlp.down_proj", 2 * wide);
      break;
    case Architecture::Mlp::kPlain:
      two("mlp.up_proj", "mlp.down_proj", wide);
      break;
    case Architecture::Mlp::kPlainNamed:
      two("mlp.c_fc", "mlp.c_proj", wide);
      break;
  }
  return linears;
}

// Takes tensors and remembers what becomes of them.
class Mapper {
 public:
  Mapper(const GgufModel& model, GgufTensors tensors)
      : model_(model), tensors_(std::move(tensors)) {}

  void Take(const std::string& from, const std::string& to, const Shape& shape,
            int64_t interleaved_rows = 0, float offset = 0) {
    mapped_.push_back({to, tensors_.Take(from, shape), interleaved_rows, offset});
  }

  void TakeLayer(int64_t layer) {
    const std::string from = fmt::format("blk.{}.", layer);
    const std::string to = fmt::format("model.layers.{}.", layer);
    for (const GgufNorm& norm : model_.architecture->norms) {
      if (norm.optional && !model_.query_key_norm) continue;
      TakeNorm(from + std::string(norm.gguf), to + std::string(norm.hugging_face), Size(norm));
    }
    for (const Linear& linear : Linears(model_)) {
      const std::string gguf = from + std::string(linear.gguf);
      const std::string name = to + std::string(linear.hugging_face);
      Take(gguf + ".weight", name + ".weight", {linear.rows, linear.columns},
           linear.interleaved_rows);
      if (!linear.biased) continue;
      Take(gguf + ".bias", name + ".bias", {linear.rows}, linear.interleaved_rows);
      const GgufType type = mapped_.back().source.tensor->type;
      if (linear.interleaved_rows > 0 && Info(type).block_elements > 1) {
        Fail(ErrorCode::kUnsupported, "{}: {} is {}, whose blocks span several rows",
             tensors_.what(), gguf + ".bias", Info(type).name);
      }
    }
  }

  // A norm that has a bias in the file has one in the checkpoint.
  void TakeNorm(const std::string& from, const std::string& to, const Shape& shape) {
    Take(from + ".weight", to + ".weight", shape, 0, model_.architecture->norm_offset);
    if (tensors_.Has(from + ".bias")) Take(from + ".bias", to + ".bias", shape);
  }

  bool Has(const std::string& name) const { return tensors_.Has(name); }

  std::vector<ImportedTensor> Finish() {
    tensors_.ExpectNone();
    return std::move(mapped_);
  }

 private:
  Shape Size(const GgufNorm& norm) const {
    switch (norm.size) {
      case GgufNorm::Size::kHead:
        return {model_.head_dim};
      case GgufNorm::Size::kQuery:
        return {model_.heads * model_.head_dim};
      case GgufNorm::Size::kKey:
        return {model_.kv_heads * model_.head_dim};
      case GgufNorm::Size::kQueryHeads:
        return {model_.heads, model_.head_dim};
      case GgufNorm::Size::kKeyHeads:
        return {model_.kv_heads, model_.head_dim};
      default:
        return {model_.hidden};
    }
  }

  const GgufModel& model_;
  GgufTensors tensors_;
  std::vector<ImportedTensor> mapped_;
};

std::vector<float> ReadFactors(std::string_view name, GgufTensors& tensors,
                               const GgufModel& model) {
  const std::string owned(name);
  if (!tensors.Has(owned)) return {};
  const GgufSource factors = tensors.Take(owned, {model.rotated / 2});
  if (factors.tensor->type != GgufType::kF32) {
    Fail(ErrorCode::kUnsupported, "{}: {} is {}; expected F32", tensors.what(), name,
         Info(factors.tensor->type).name);
  }
  std::vector<float> values(static_cast<std::size_t>(model.rotated / 2));
  factors.file->ReadAt(factors.tensor->begin, std::as_writable_bytes(std::span(values)));
  for (const float value : values) {
    if (value > 0 && value < 1e6f) continue;
    Fail(ErrorCode::kCorruptInput, "{}: {} holds {}; a divisor of frequencies is expected",
         tensors.what(), name, value);
  }
  return values;
}

}  // namespace

GgufModel ReadGgufModel(const GgufMetadata& metadata, const GgufTensors& tensors) {
  GgufModel model;
  model.architecture = &FindGgufArchitecture(metadata);
  CheckNeutral(metadata, model);
  model.layers = PositiveInt(metadata, model.Key("block_count"));
  model.hidden = PositiveInt(metadata, model.Key("embedding_length"));
  model.intermediate = PositiveInt(metadata, model.Key("feed_forward_length"));
  model.context = PositiveInt(metadata, model.Key("context_length"));
  ReadHeads(metadata, model);
  ReadRotation(metadata, model);
  model.norm_epsilon = metadata.Number(model.Key(model.architecture->epsilon));
  if (!(model.norm_epsilon > 0) || !(model.rope_theta > 1)) {
    Fail(ErrorCode::kCorruptInput, "{}: norm epsilon {} and rope base {} make no sense",
         metadata.what(), model.norm_epsilon, model.rope_theta);
  }
  model.vocabulary = VocabularySize(tensors);
  model.tied_embeddings = !tensors.Has("output.weight");
  const bool fused = model.architecture->attention == GgufArchitecture::Attention::kFused;
  model.attention_bias = tensors.Has(fused ? "blk.0.attn_qkv.bias" : "blk.0.attn_q.bias");
  model.mlp_bias = tensors.Has("blk.0.ffn_down.bias");
  model.query_key_norm = tensors.Has("blk.0.attn_q_norm.weight");
  return model;
}

std::vector<ImportedTensor> MapTensors(const GgufModel& model, GgufTensors tensors) {
  for (const std::string_view name : {kRopeFactors, kShortFactors, kLongFactors}) {
    if (tensors.Has(std::string(name))) tensors.Take(std::string(name), {model.rotated / 2});
  }
  Mapper mapper(model, std::move(tensors));
  const Shape embedding = {model.vocabulary, model.hidden};
  mapper.Take("token_embd.weight", "model.embed_tokens.weight", embedding);
  for (int64_t layer = 0; layer < model.layers; ++layer) mapper.TakeLayer(layer);
  mapper.TakeNorm("output_norm", "model.norm", {model.hidden});
  if (!model.tied_embeddings) mapper.Take("output.weight", "lm_head.weight", embedding);
  return mapper.Finish();
}

void ReadRopeFactors(GgufTensors tensors, GgufModel& model) {
  model.rope_factors = ReadFactors(kRopeFactors, tensors, model);
  model.short_factors = ReadFactors(kShortFactors, tensors, model);
  model.long_factors = ReadFactors(kLongFactors, tensors, model);
}

}  // namespace narrow
