// What a decoder-only transformer needs to run, read from a Hugging Face config.json.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/attention_heads.h"
#include "model/roles.h"
#include "tensor/dtype.h"

namespace narrow {

// Rotary position embedding: which frequencies.
// Source: transformers 5, modeling_rope_utils.py (default, linear, llama3).
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kLlama3 } kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                 // linear, llama3
  double low_frequency_factor = 1.0;   // llama3
  double high_frequency_factor = 4.0;  // llama3
  double original_positions = 8192;    // llama3
};

struct DecoderConfig {
  std::string architecture;  // "LlamaForCausalLM"
  int64_t vocabulary = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  AttentionHeads heads;
  int64_t max_positions = 0;
  float norm_epsilon = 1e-6f;
  RopeConfig rope;
  Bias query_key_value_bias = Bias::kNone;
  Bias attention_output_bias = Bias::kNone;
  Bias mlp_bias = Bias::kNone;
  enum class LmHead { kOwn, kTied } lm_head = LmHead::kOwn;
  // What the weights are: as the config says, or, where it says nothing that PyTorch would take for
  // a type, as the checkpoint's embedding is stored (bf16 where there is no checkpoint).
  Dtype dtype = Dtype::kBF16;
  bool dtype_stated = false;  // by the config

  int64_t query_width() const { return heads.query_width(); }
  int64_t key_value_width() const { return heads.key_value_width(); }
  int64_t query_key_value_width() const { return query_width() + 2 * key_value_width(); }
};

}  // namespace narrow
