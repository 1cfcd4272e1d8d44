#include "synthesis/presets.h"

#include <array>
#include <string>

#include "base/error.h"

namespace narrow {
namespace {

// What differs between the models of the family.
struct Dimensions {
  ModelPreset preset;
  int64_t hidden;
  int64_t intermediate;
  int64_t layers;
  int64_t query_heads;
  int64_t key_value_heads;
  int64_t vocabulary;
  int64_t max_positions;
};

constexpr std::array kDimensions = {
    Dimensions{{"llama-3.1-405b", "Llama 3.1 405B, 126 layers, 812 GB"},
               16384,
               53248,
               126,
               128,
               8,
               128256,
               131072},
    Dimensions{{"llama-3.1-70b", "Llama 3.1 70B, 80 layers, 141 GB"},
               8192,
               28672,
               80,
               64,
               8,
               128256,
               131072},
    Dimensions{
        {"llama-3.1-8b", "Llama 3.1 8B, 32 layers, 16 GB"}, 4096, 14336, 32, 32, 8, 128256, 131072},
    Dimensions{{"tiny", "the same architecture for tests, 2 layers, under 1 MB"},
               64,
               192,
               2,
               4,
               2,
               512,
               2048},
};

// The best known model of each other family, as far as its config.json decides shapes and
// arithmetic. Source: config.json of google/gemma-7b, gemma-2-9b, gemma-3-27b-it (text_config),
// Qwen/Qwen3-30B-A3B, mistralai/Mixtral-8x7B-v0.1, zai-org/GLM-4.5-Air, deepseek-ai/DeepSeek-V3
// (without its layer that predicts further), bigcode/starcoder2-15b, nvidia/Minitron-8B-Base,
// CohereForAI/c4ai-command-r-v01 and c4ai-command-r7b-12-2024.
struct Written {
  ModelPreset preset;
  std::string_view config;
};
constexpr std::array kWritten = {
    Written{{"gemma-7b", "Gemma 7B, 28 layers, 17 GB"}, R"({
      "architectures": ["GemmaForCausalLM"], "model_type": "gemma", "hidden_size": 3072,
      "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16,
      "num_key_value_heads": 16, "head_dim": 256, "vocab_size": 256000,
      "max_position_embeddings": 8192, "rms_norm_eps": 1e-06, "rope_theta": 10000.0})"},
    Written{{"gemma-2-9b", "Gemma 2 9B, 42 layers, 18 GB"}, R"({
      "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_size": 3584,
      "intermediate_size": 14336, "num_hidden_layers": 42, "num_attention_heads": 16,
      "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000, "sliding_window": 4096,
      "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
      "query_pre_attn_scalar": 256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-06,
      "rope_theta": 10000.0})"},
    Written{{"gemma-3-27b", "Gemma 3 27B without its vision tower, 62 layers, 54 GB"}, R"({
      "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 5376,
      "intermediate_size": 21504, "num_hidden_layers": 62, "num_attention_heads": 32,
      "num_key_value_heads": 16, "head_dim": 128, "vocab_size": 262208, "sliding_window": 1024,
      "query_pre_attn_scalar": 168, "max_position_embeddings": 131072, "rms_norm_eps": 1e-06,
      "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
      "rope_scaling": {"rope_type": "linear", "factor": 8.0}})"},
    Written{{"starcoder2-15b", "StarCoder2 15B, 40 layers, 32 GB"}, R"({
      "architectures": ["Starcoder2ForCausalLM"], "model_type": "starcoder2", "hidden_size": 6144,
      "intermediate_size": 24576, "num_hidden_layers": 40, "num_attention_heads": 48,
      "num_key_value_heads": 4, "vocab_size": 49152, "sliding_window": 4096, "use_bias": true,
      "tie_word_embeddings": false, "max_position_embeddings": 16384, "norm_epsilon": 1e-05,
      "rope_theta": 100000.0})"},
    Written{{"stablelm-2-1.6b", "StableLM 2 1.6B, 24 layers, 3.3 GB"}, R"({
      "architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "hidden_size": 2048,
      "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 32,
      "num_key_value_heads": 32, "vocab_size": 100352, "use_qkv_bias": true,
      "partial_rotary_factor": 0.25, "max_position_embeddings": 4096, "layer_norm_eps": 1e-05,
      "rope_theta": 10000.0})"},
    Written{{"minitron-8b", "Minitron 8B, a Nemotron, 32 layers, 15 GB"}, R"({
      "architectures": ["NemotronForCausalLM"], "model_type": "nemotron", "hidden_size": 4096,
      "intermediate_size": 16384, "num_hidden_layers": 32, "num_attention_heads": 48,
      "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 256000,
      "partial_rotary_factor": 0.5, "max_position_embeddings": 4096, "norm_eps": 1e-05,
      "rope_theta": 10000.0})"},
    Written{{"command-r", "Command R 35B, 40 layers, 70 GB"}, R"({
      "architectures": ["CohereForCausalLM"], "model_type": "cohere", "hidden_size": 8192,
      "intermediate_size": 22528, "num_hidden_layers": 40, "num_attention_heads": 64,
      "num_key_value_heads": 64, "vocab_size": 256000, "logit_scale": 0.0625,
      "max_position_embeddings": 131072, "layer_norm_eps": 1e-05, "rope_theta": 8000000.0})"},
    Written{{"command-r7b", "Command R7B, 32 layers, 16 GB"}, R"({
      "architectures": ["Cohere2ForCausalLM"], "model_type": "cohere2", "hidden_size": 4096,
      "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
      "num_key_value_heads": 8, "vocab_size": 256000, "sliding_window": 4096,
      "sliding_window_pattern": 4, "logit_scale": 0.25, "max_position_embeddings": 132096,
      "layer_norm_eps": 1e-05, "rope_theta": 50000.0})"},
    Written{{"qwen3-30b-a3b", "Qwen3 30B-A3B, 48 layers of 128 experts, 61 GB"}, R"({
      "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
      "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
      "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
      "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true,
      "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": false,
      "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0})"},
    Written{{"mixtral-8x7b", "Mixtral 8x7B, 32 layers of 8 experts, 93 GB"}, R"({
      "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096,
      "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
      "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
      "num_experts_per_tok": 2, "tie_word_embeddings": false, "max_position_embeddings": 32768,
      "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": null})"},
    Written{{"glm-4.5-air", "GLM-4.5-Air, 46 layers, 128 experts, 221 GB"}, R"({
      "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "hidden_size": 4096,
      "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 46,
      "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151552,
      "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 1,
      "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.0,
      "first_k_dense_replace": 1, "attention_bias": true, "use_qk_norm": false,
      "partial_rotary_factor": 0.5, "tie_word_embeddings": false,
      "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 1000000})"},
    Written{{"deepseek-v3", "DeepSeek-V3 in FP8 blocks, 61 layers, 256 experts, 689 GB"}, R"({
      "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
      "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
      "num_nextn_predict_layers": 0, "num_attention_heads": 128, "num_key_value_heads": 128,
      "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
      "v_head_dim": 128, "vocab_size": 129280, "n_routed_experts": 256, "n_shared_experts": 1,
      "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "norm_topk_prob": true,
      "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
      "first_k_dense_replace": 3, "moe_layer_freq": 1, "attention_bias": false,
      "hidden_act": "silu", "tie_word_embeddings": false, "max_position_embeddings": 163840,
      "rms_norm_eps": 1e-06, "rope_theta": 10000,
      "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
                       "mscale": 1.0, "mscale_all_dim": 1.0,
                       "original_max_position_embeddings": 4096},
      "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                              "weight_block_size": [128, 128]}})"},
};

constexpr auto kPresets = [] {
  std::array<ModelPreset, kDimensions.size() + kWritten.size()> presets;
  std::size_t count = 0;
  for (const Dimensions& model : kDimensions) presets[count++] = model.preset;
  for (const Written& model : kWritten) presets[count++] = model.preset;
  return presets;
}();

// Source: config.json of meta-llama/Llama-3.1-{8B,70B,405B}, revisions with 8 key-value heads.
Json MakeConfig(const Dimensions& model) {
  return Json{{"architectures", Json::array({"LlamaForCausalLM"})},
              {"attention_bias", false},
              {"attention_dropout", 0.0},
              {"bos_token_id", model.vocabulary == 128256 ? 128000 : 0},
              {"eos_token_id", model.vocabulary == 128256 ? 128001 : 1},
              {"hidden_act", "silu"},
              {"hidden_size", model.hidden},
              {"initializer_range", 0.02},
              {"intermediate_size", model.intermediate},
              {"max_position_embeddings", model.max_positions},
              {"mlp_bias", false},
              {"model_type", "llama"},
              {"num_attention_heads", model.query_heads},
              {"num_hidden_layers", model.layers},
              {"num_key_value_heads", model.key_value_heads},
              {"pretraining_tp", 1},
              {"rms_norm_eps", 1e-05},
              {"rope_scaling",
               {{"factor", 8.0},
                {"low_freq_factor", 1.0},
                {"high_freq_factor", 4.0},
                {"original_max_position_embeddings", model.max_positions / 16},
                {"rope_type", "llama3"}}},
              {"rope_theta", 500000.0},
              {"tie_word_embeddings", false},
              {"torch_dtype", "bfloat16"},
              {"use_cache", true},
              {"vocab_size", model.vocabulary}};
}

}  // namespace

std::span<const ModelPreset> ModelPresets() { return kPresets; }

Json PresetConfig(std::string_view name) {
  std::string known;
  for (const Dimensions& model : kDimensions) {
    if (model.preset.name == name) return MakeConfig(model);
    known += (known.empty() ? "" : ", ") + std::string(model.preset.name);
  }
  for (const Written& model : kWritten) {
    if (model.preset.name == name) {
      Json config = ParseJson(model.config, model.preset.name);
      config["torch_dtype"] = "bfloat16";
      return config;
    }
    known += ", " + std::string(model.preset.name);
  }
  Fail(ErrorCode::kInvalidArgument, "there is no preset {}; expected one of {}", Quoted(name),
       known);
}

}  // namespace narrow
