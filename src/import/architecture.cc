#include "import/architecture.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "import/gguf_model.h"
#include "import/shortest_decimal.h"

namespace narrow {
namespace {

using Rows = GgufArchitecture::Rows;
using Mlp = GgufArchitecture::Mlp;
using Size = GgufNorm::Size;

constexpr GgufNorm kBeforeEach[] = {{"attn_norm", "input_layernorm"},
                                    {"ffn_norm", "post_attention_layernorm"}};
constexpr GgufNorm kBeforeEachAndHeads[] = {{"attn_norm", "input_layernorm"},
                                            {"ffn_norm", "post_attention_layernorm"},
                                            {"attn_q_norm", "self_attn.q_norm", Size::kHead},
                                            {"attn_k_norm", "self_attn.k_norm", Size::kHead}};
constexpr GgufNorm kAround[] = {{"attn_norm", "input_layernorm"},
                                {"post_attention_norm", "post_attention_layernorm"},
                                {"ffn_norm", "pre_feedforward_layernorm"},
                                {"post_ffw_norm", "post_feedforward_layernorm"}};
constexpr GgufNorm kAroundAndHeads[] = {{"attn_norm", "input_layernorm"},
                                        {"post_attention_norm", "post_attention_layernorm"},
                                        {"ffn_norm", "pre_feedforward_layernorm"},
                                        {"post_ffw_norm", "post_feedforward_layernorm"},
                                        {"attn_q_norm", "self_attn.q_norm", Size::kHead},
                                        {"attn_k_norm", "self_attn.k_norm", Size::kHead}};
constexpr GgufNorm kAfterEach[] = {{"post_attention_norm", "post_attention_layernorm"},
                                   {"post_ffw_norm", "post_feedforward_layernorm"},
                                   {"attn_q_norm", "self_attn.q_norm", Size::kQuery},
                                   {"attn_k_norm", "self_attn.k_norm", Size::kKey}};
constexpr GgufNorm kOneForBoth[] = {{"attn_norm", "input_layernorm"},
                                    {"attn_q_norm", "self_attn.q_norm", Size::kQueryHeads, true},
                                    {"attn_k_norm", "self_attn.k_norm", Size::kKeyHeads, true}};

constexpr std::string_view kLayerNorm = "attention.layer_norm_epsilon";

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

// The scale of the scores is not in the file. Source: llama.cpp, which tells the one model that
// has another (27B) by its number of layers.
void SetScoreScale(const GgufModel& model, int64_t layers_of_largest, Json& config) {
  config["query_pre_attn_scalar"] =
      model.layers == layers_of_largest ? model.hidden / model.heads : model.head_dim;
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

constexpr std::string_view kGraniteKeys[] = {"attention.scale", "embedding_scale", "logit_scale",
                                             "residual_scale"};
constexpr std::string_view kGemma2Keys[] = {"attention.sliding_window", "attn_logit_softcapping",
                                            "final_logit_softcapping"};
constexpr std::string_view kGemma3Keys[] = {"attention.sliding_window", "final_logit_softcapping"};
constexpr std::string_view kPhi3Keys[] = {"attention.sliding_window", "rope.dimension_count",
                                          "rope.scaling.attn_factor"};
constexpr std::string_view kNemotronKeys[] = {"rope.dimension_count"};
constexpr std::string_view kCohereKeys[] = {"logit_scale"};
constexpr std::string_view kCohere2Keys[] = {"attention.sliding_window", "logit_scale"};

constexpr auto kPaired = Rows::kPaired;
constexpr auto kNoOutputBias = GgufArchitecture::OutputBias::kNever;

constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama",
     .hugging_face = "LlamaForCausalLM",
     .model_type = "llama",
     .rows = kPaired,
     .norms = kBeforeEach,
     .config = LlamaConfig},
    {.name = "qwen2",
     .hugging_face = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .output_bias = kNoOutputBias,
     .norms = kBeforeEach,
     .config = Qwen2Config},
    {.name = "qwen3",
     .hugging_face = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .norms = kBeforeEachAndHeads,
     .config = Qwen3Config},
    {.name = "granite",
     .hugging_face = "GraniteForCausalLM",
     .model_type = "granite",
     .rows = kPaired,
     .norms = kBeforeEach,
     .keys = kGraniteKeys,
     .config = GraniteConfig},
    {.name = "smollm3",
     .hugging_face = "SmolLM3ForCausalLM",
     .model_type = "smollm3",
     .rows = kPaired,
     .norms = kBeforeEach,
     .config = SmolLm3Config},
    {.name = "gemma",
     .hugging_face = "GemmaForCausalLM",
     .model_type = "gemma",
     .norm_offset = 1,
     .norms = kBeforeEach,
     .pieces = PieceOrder::kIds,
     .config = GemmaConfig},
    {.name = "gemma2",
     .hugging_face = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .norm_offset = 1,
     .norms = kAround,
     .pieces = PieceOrder::kIds,
     .keys = kGemma2Keys,
     .config = Gemma2Config},
    {.name = "gemma3",
     .hugging_face = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .norm_offset = 1,
     .norms = kAroundAndHeads,
     .pieces = PieceOrder::kIds,
     .keys = kGemma3Keys,
     .config = Gemma3Config},
    {.name = "phi3",
     .hugging_face = "Phi3ForCausalLM",
     .model_type = "phi3",
     .attention = GgufArchitecture::Attention::kFused,
     .mlp = Mlp::kFusedGate,
     .norms = kBeforeEach,
     .keys = kPhi3Keys,
     .config = Phi3Config},
    {.name = "olmo2",
     .hugging_face = "Olmo2ForCausalLM",
     .model_type = "olmo2",
     .norms = kAfterEach,
     .config = Olmo2Config},
    {.name = "starcoder2",
     .hugging_face = "Starcoder2ForCausalLM",
     .model_type = "starcoder2",
     .mlp = Mlp::kPlainNamed,
     .epsilon = kLayerNorm,
     .norms = kBeforeEach,
     .config = Starcoder2Config},
    {.name = "nemotron",
     .hugging_face = "NemotronForCausalLM",
     .model_type = "nemotron",
     .mlp = Mlp::kPlain,
     .norm_offset = 1,
     .epsilon = kLayerNorm,
     .norms = kBeforeEach,
     .keys = kNemotronKeys,
     .config = NemotronConfig},
    {.name = "command-r",
     .hugging_face = "CohereForCausalLM",
     .model_type = "cohere",
     .epsilon = kLayerNorm,
     .norms = kOneForBoth,
     .keys = kCohereKeys,
     .config = CohereConfig},
    {.name = "cohere2",
     .hugging_face = "Cohere2ForCausalLM",
     .model_type = "cohere2",
     .epsilon = kLayerNorm,
     .norms = kOneForBoth,
     .keys = kCohere2Keys,
     .config = Cohere2Config},
};

}  // namespace

std::span<const GgufArchitecture> GgufArchitectures() { return kArchitectures; }

const GgufArchitecture& FindGgufArchitecture(std::string_view name, std::string_view what) {
  const auto* found = std::ranges::find(kArchitectures, name, &GgufArchitecture::name);
  if (found != std::end(kArchitectures)) return *found;
  std::string known;
  for (const GgufArchitecture& row : kArchitectures) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  Fail(ErrorCode::kUnsupported, "{}: architecture {} is not imported; these are: {}", what,
       Quoted(name), known);
}

}  // namespace narrow
