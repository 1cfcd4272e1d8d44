#include "import/config_json.h"

#include <cstdlib>
#include <string>

namespace narrow {
namespace {

// Metadata holds f32: 1e-5 comes as 9.99999974e-06. Gives the shortest decimal of the f32.
double ShortestDecimal(double value) {
  const auto narrowed = static_cast<float>(value);
  if (static_cast<double>(narrowed) != value) return value;
  return std::strtod(fmt::format("{}", narrowed).c_str(), nullptr);
}

Json IdOrNull(const std::optional<int64_t>& id) { return id ? Json(*id) : Json(nullptr); }

Json RopeScaling(const LlamaModel& model) {
  if (model.llama3_rope_factor) {
    return {{"factor", *model.llama3_rope_factor},
            {"high_freq_factor", 4.0},
            {"low_freq_factor", 1.0},
            {"original_max_position_embeddings", 8192},
            {"rope_type", "llama3"}};
  }
  if (!model.linear_rope_factor) return nullptr;
  return {{"factor", ShortestDecimal(*model.linear_rope_factor)},
          {"rope_type", "linear"},
          {"type", "linear"}};
}

}  // namespace

Json ConfigJson(const LlamaModel& model, const TokenizerSource& tokenizer) {
  return {{"architectures", Json::array({"LlamaForCausalLM"})},
          {"attention_bias", model.attention_bias},
          {"attention_dropout", 0.0},
          {"bos_token_id", IdOrNull(tokenizer.bos)},
          {"eos_token_id", IdOrNull(tokenizer.eos)},
          {"head_dim", model.head_dim},
          {"hidden_act", "silu"},
          {"hidden_size", model.hidden},
          {"initializer_range", 0.02},
          {"intermediate_size", model.intermediate},
          {"max_position_embeddings", model.context},
          {"mlp_bias", model.mlp_bias},
          {"model_type", "llama"},
          {"num_attention_heads", model.heads},
          {"num_hidden_layers", model.layers},
          {"num_key_value_heads", model.kv_heads},
          {"pad_token_id", IdOrNull(tokenizer.padding)},
          {"pretraining_tp", 1},
          {"rms_norm_eps", ShortestDecimal(model.rms_epsilon)},
          {"rope_scaling", RopeScaling(model)},
          {"rope_theta", ShortestDecimal(model.rope_theta)},
          {"tie_word_embeddings", model.tied_embeddings},
          {"torch_dtype", "bfloat16"},
          {"use_cache", true},
          {"vocab_size", model.vocabulary}};
}

Json GenerationConfigJson(const TokenizerSource& tokenizer) {
  Json eos = IdOrNull(tokenizer.eos);
  if (tokenizer.end_of_turn && tokenizer.end_of_turn != tokenizer.eos) {
    eos = tokenizer.eos ? Json::array({*tokenizer.eos, *tokenizer.end_of_turn})
                        : Json(*tokenizer.end_of_turn);
  }
  return {{"_from_model_config", true},
          {"bos_token_id", IdOrNull(tokenizer.bos)},
          {"eos_token_id", std::move(eos)},
          {"pad_token_id", IdOrNull(tokenizer.padding)}};
}

}  // namespace narrow
