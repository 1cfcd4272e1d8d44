#include "model/decoder_layout.h"

#include "base/error.h"

namespace narrow {

LayerSpec DecoderLayout(const DecoderConfig& config, int64_t layer) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::string attention = prefix + "self_attn";
  const std::string mlp = prefix + "mlp";
  const int64_t hidden = config.hidden;
  const int64_t queries = config.query_width();
  const int64_t keys = config.key_value_width();
  LayerSpec spec;
  spec.attention_module = attention;
  spec.attention_norm = {prefix + "input_layernorm.weight", hidden};
  spec.mlp_norm = {prefix + "post_attention_layernorm.weight", hidden};
  spec.linears = {
      LinearSpec{attention + ".q_proj", WeightRole::kQuery, LinearGroup::kQueryKeyValue, queries,
                 hidden, config.query_key_value_bias},
      LinearSpec{attention + ".k_proj", WeightRole::kKey, LinearGroup::kQueryKeyValue, keys, hidden,
                 config.query_key_value_bias},
      LinearSpec{attention + ".v_proj", WeightRole::kValue, LinearGroup::kQueryKeyValue, keys,
                 hidden, config.query_key_value_bias},
      LinearSpec{attention + ".o_proj", WeightRole::kAttentionOutput, LinearGroup::kAttentionOutput,
                 hidden, queries, config.attention_output_bias},
      LinearSpec{mlp + ".gate_proj", WeightRole::kGate, LinearGroup::kGateUp, config.intermediate,
                 hidden, config.mlp_bias},
      LinearSpec{mlp + ".up_proj", WeightRole::kUp, LinearGroup::kGateUp, config.intermediate,
                 hidden, config.mlp_bias},
      LinearSpec{mlp + ".down_proj", WeightRole::kDown, LinearGroup::kDown, hidden,
                 config.intermediate, config.mlp_bias},
  };
  return spec;
}

ModelSpec DecoderModel(const DecoderConfig& config) {
  ModelSpec spec;
  spec.embedding = "model.embed_tokens.weight";
  spec.final_norm = {"model.norm.weight", config.hidden};
  spec.lm_head_module = "lm_head";
  spec.lm_head = config.lm_head == DecoderConfig::LmHead::kTied ? spec.embedding : "lm_head.weight";
  return spec;
}

bool IsRotaryTable(std::string_view name) {
  for (const std::string_view table :
       {"rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "rotary_pos_emb.inv_freq",
        "rotary_emb.cos_cached", "rotary_emb.sin_cached"}) {
    const bool ends = name.ends_with(table);
    if (ends && (name.size() == table.size() || name[name.size() - table.size() - 1] == '.')) {
      return true;
    }
  }
  return false;
}

}  // namespace narrow
