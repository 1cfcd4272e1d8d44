// What a quantized checkpoint holds, as plain data: a job fills it in, an export format
// turns it into names and configuration. Nothing here knows a model, a scheme or a file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace narrow {

// A linear layer stored in FP8 with a static scale for the whole weight and for its input.
struct QuantizedLinear {
  std::string name;  // full module name: "model.layers.0.self_attn.q_proj"
  int64_t out_features = 0;
  int64_t in_features = 0;
};

// An attention module and the linears whose outputs meet in it, two of them by way of the cache
// (full module names).
struct AttentionModule {
  std::string name;  // "model.layers.0.self_attn"
  std::string query_projection;
  std::string key_projection;
  std::string value_projection;
};

enum class KvCacheQuantization { kNone, kFp8 };

// Patterns of linears that share one weight scale ("*q_proj"), group by group.
using WeightMergeGroups = std::vector<std::vector<std::string>>;

struct QuantizedCheckpointDescription {
  bool own_head = true;      // lm_head is a matrix of its own, not the embedding
  std::string architecture;  // of config.json: "LlamaForCausalLM"
  std::string model_dtype;   // of the unquantized tensors, as in config.json: "bfloat16"
  std::vector<QuantizedLinear> linears;
  std::vector<std::string> excluded_linears;  // full module names left unquantized, "lm_head" too
  KvCacheQuantization kv_cache = KvCacheQuantization::kNone;
  std::vector<AttentionModule> attention;  // all of the model; empty without KV quantization
  std::vector<std::string>
      cache_patterns;  // of their key and value projections: "*k_proj", "*v_proj"
  double min_kv_scale = 0.0;
  std::optional<WeightMergeGroups> weight_merge_groups;  // nothing: every matrix its own scale
};

}  // namespace narrow
