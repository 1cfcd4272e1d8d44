#include "import/architecture_configs.h"

#include <cmath>
#include <string>

#include "base/error.h"
#include "import/shortest_decimal.h"

namespace narrow {
namespace {

Json NumberOrNull(const GgufMetadata& metadata, const std::string& key) {
  const std::optional<double> value = metadata.OptionalNumber(key);
  return value ? Json(ShortestDecimal(*value)) : Json(nullptr);
}

Json Number(const GgufMetadata& metadata, const std::string& key) {
  return ShortestDecimal(metadata.Number(key));
}

// `period` - 1 layers with a window, then one without.
Json LayerTypes(int64_t layers, int64_t period) {
  Json types = Json::array();
  for (int64_t layer = 1; layer <= layers; ++layer) {
    types.push_back(layer % period == 0 ? "full_attention" : "sliding_attention");
  }
  return types;
}

// As the file says it, else one in `period` without a window.
Json StatedLayerTypes(const GgufMetadata& metadata, const GgufModel& model, int64_t period) {
  const std::string key = model.Key("attention.sliding_window_pattern");
  const std::vector<int64_t>* slides = metadata.OptionalInts(key);
  if (slides == nullptr) return LayerTypes(model.layers, period);
  if (std::ssize(*slides) != model.layers) {
    Fail(ErrorCode::kCorruptInput, "{}: {} has {} elements for {} layers", metadata.what(), key,
         slides->size(), model.layers);
  }
  Json types = Json::array();
  for (const int64_t slide : *slides) {
    types.push_back(slide != 0 ? "sliding_attention" : "full_attention");
  }
  return types;
}

int64_t Window(const GgufMetadata& metadata, const GgufModel& model) {
  const std::string key = model.Key("attention.sliding_window");
  const int64_t window = metadata.Int(key);
  if (window > 0) return window;
  Fail(ErrorCode::kCorruptInput, "{}: {} is {}; expected a positive number", metadata.what(), key,
       window);
}

double RotatedShare(const GgufModel& model) {
  return static_cast<double>(model.rotated) / static_cast<double>(model.head_dim);
}

void RmsNorm(const GgufModel& model, Json& config) {
  config["rms_norm_eps"] = ShortestDecimal(model.norm_epsilon);
}

// The scale of the scores is not in the file. Source: llama.cpp, which tells the one model that
// has another (27B) by its number of layers.
void SetScoreScale(const GgufModel& model, int64_t layers_of_largest, Json& config) {
  config["query_pre_attn_scalar"] =
      model.layers == layers_of_largest ? model.hidden / model.heads : model.head_dim;
}

}  // namespace

void LlamaConfig(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["attention_bias"] = model.attention_bias;
  config["hidden_act"] = "silu";
  config["mlp_bias"] = model.mlp_bias;
  config["pretraining_tp"] = 1;
}

void Qwen2Config(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["hidden_act"] = "silu";
  config["use_sliding_window"] = false;
}

void Qwen3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  Qwen2Config(metadata, model, config);
  config["attention_bias"] = model.attention_bias;
}

void GraniteConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["attention_bias"] = model.attention_bias;
  config["hidden_act"] = "silu";
  config["mlp_bias"] = model.mlp_bias;
  config["attention_multiplier"] = Number(metadata, model.Key("attention.scale"));
  config["embedding_multiplier"] = Number(metadata, model.Key("embedding_scale"));
  config["logits_scaling"] = Number(metadata, model.Key("logit_scale"));
  config["residual_multiplier"] = Number(metadata, model.Key("residual_scale"));
}

void GemmaConfig(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["attention_bias"] = false;
  config["hidden_act"] = "gelu_pytorch_tanh";
  config["hidden_activation"] = "gelu_pytorch_tanh";
}

void Gemma2Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  GemmaConfig(metadata, model, config);
  SetScoreScale(model, 46, config);
  config["attn_logit_softcapping"] = NumberOrNull(metadata, model.Key("attn_logit_softcapping"));
  config["final_logit_softcapping"] = NumberOrNull(metadata, model.Key("final_logit_softcapping"));
  config["layer_types"] = LayerTypes(model.layers, 2);
  config["sliding_window"] = Window(metadata, model);
}

// The window's period and the base of the local rotation are not in the file (of newer files the
// latter is). Source: llama.cpp, and Gemma3TextConfig of transformers.
void Gemma3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  GemmaConfig(metadata, model, config);
  SetScoreScale(model, 62, config);
  config["attn_logit_softcapping"] = nullptr;
  config["final_logit_softcapping"] = NumberOrNull(metadata, model.Key("final_logit_softcapping"));
  config["layer_types"] = LayerTypes(model.layers, 6);
  config["rope_local_base_freq"] =
      ShortestDecimal(metadata.OptionalNumber(model.Key("rope.freq_base_swa")).value_or(10000.0));
  config["sliding_window"] = Window(metadata, model);
  config["sliding_window_pattern"] = 6;
}

void Phi3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["hidden_act"] = "silu";
  config["original_max_position_embeddings"] =
      metadata.OptionalInt(model.Key("rope.scaling.original_context_length"))
          .value_or(model.context);
  config["partial_rotary_factor"] = RotatedShare(model);
  const int64_t window = metadata.OptionalInt(model.Key("attention.sliding_window")).value_or(0);
  config["sliding_window"] = window > 0 ? Json(window) : Json(nullptr);
}

void Olmo2Config(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["attention_bias"] = model.attention_bias;
  config["hidden_act"] = "silu";
}

void Olmo3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  Olmo2Config(metadata, model, config);
  config["layer_types"] = StatedLayerTypes(metadata, model, 4);
  config["sliding_window"] = Window(metadata, model);
}

void Glm4Config(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["attention_bias"] = model.attention_bias;
  config["hidden_act"] = "silu";
  config["partial_rotary_factor"] = RotatedShare(model);
}

void Ernie45Config(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["hidden_act"] = "silu";
  config["use_bias"] = model.attention_bias;
}

void SeedOssConfig(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["attention_bias"] = model.attention_bias;
  config["attention_out_bias"] = false;
  config["hidden_act"] = "silu";
  config["mlp_bias"] = model.mlp_bias;
}

// The small one has no windows, and all of its layers rotate.
void Exaone4Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["hidden_act"] = "silu";
  config["sliding_window"] = nullptr;
  if (!metadata.Has(model.Key("attention.sliding_window"))) return;
  config["layer_types"] = StatedLayerTypes(metadata, model, 4);
  config["sliding_window"] = Window(metadata, model);
}

void HunYuanDenseConfig(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["attention_bias"] = model.attention_bias;
  config["hidden_act"] = "silu";
}

// Of YaRN's two factors of the logarithm the file has one; the models have equal ones, which
// cancel out.
void Ministral3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  RmsNorm(model, config);
  config["hidden_act"] = "silu";
  config["sliding_window"] = nullptr;
  Json& rotation = config["rope_scaling"];
  if (rotation.is_null() || rotation["rope_type"] != "yarn") {
    Fail(ErrorCode::kUnsupported, "{}: {} is not yarn, which Ministral 3 rotates by",
         metadata.what(), model.Key("rope.scaling.type"));
  }
  rotation["llama_4_scaling_beta"] = Number(metadata, model.Key("attention.temperature_scale"));
  rotation["mscale"] = rotation["mscale_all_dim"] =
      Number(metadata, model.Key("rope.scaling.yarn_log_multiplier"));
}

void StableLmConfig(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  config["hidden_act"] = "silu";
  config["layer_norm_eps"] = ShortestDecimal(model.norm_epsilon);
  config["partial_rotary_factor"] = RotatedShare(model);
  config["qk_layernorm"] = false;
  config["use_parallel_residual"] = false;
  config["use_qkv_bias"] = model.attention_bias;
}

// Every fourth layer has no rotation. Source: llama.cpp, and the defaults of SmolLM3Config.
void SmolLm3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  LlamaConfig(metadata, model, config);
  config.erase("pretraining_tp");
  config["no_rope_layer_interval"] = 4;
  config["use_sliding_window"] = false;
}

void Starcoder2Config(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  config["hidden_act"] = "gelu_pytorch_tanh";
  config["norm_epsilon"] = ShortestDecimal(model.norm_epsilon);
  config["sliding_window"] = nullptr;
  config["use_bias"] = model.attention_bias;
}

void NemotronConfig(const GgufMetadata& /*metadata*/, const GgufModel& model, Json& config) {
  config["attention_bias"] = model.attention_bias;
  config["hidden_act"] = "relu2";
  config["mlp_bias"] = model.mlp_bias;
  config["norm_eps"] = ShortestDecimal(model.norm_epsilon);
  config["partial_rotary_factor"] = RotatedShare(model);
}

void CohereConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  config["attention_bias"] = model.attention_bias;
  config["hidden_act"] = "silu";
  config["layer_norm_eps"] = ShortestDecimal(model.norm_epsilon);
  config["logit_scale"] = Number(metadata, model.Key("logit_scale"));
  config["use_qk_norm"] = model.query_key_norm;
}

void Cohere2Config(const GgufMetadata& metadata, const GgufModel& model, Json& config) {
  CohereConfig(metadata, model, config);
  config.erase("use_qk_norm");
  config["layer_types"] = LayerTypes(model.layers, 4);
  config["sliding_window"] = Window(metadata, model);
  config["sliding_window_pattern"] = 4;
}

}  // namespace narrow
