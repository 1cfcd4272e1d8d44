// A quantized checkpoint that tests of `inspect` change, and what is said of it.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "inspection/inspect.h"
#include "io/checkpoint_writer.h"
#include "io/json.h"
#include "io/scratch_directory.h"

namespace narrow::inspected {

// A quantized two-layer Llama that vLLM would load; the cases change one thing each.
struct Model {
  Json config;
  std::map<std::string, TensorSpec> tensors;
  std::map<std::string, float> scales;  // F32 values of the scalar scales

  void Put(const std::string& name, Dtype dtype, Shape shape) {
    tensors[name] = {name, dtype, std::move(shape)};
  }
  void PutScale(const std::string& name, float value) {
    Put(name, Dtype::kF32, {});
    scales[name] = value;
  }
  void Remove(const std::string& name) {
    ASSERT_EQ(tensors.erase(name), 1u) << name;
    scales.erase(name);
  }
  Json& quantization() { return config["quantization_config"]; }
};

inline constexpr std::string_view kLinears[] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

inline Shape LinearShape(std::string_view module) {
  if (module == "self_attn.k_proj" || module == "self_attn.v_proj") return {4, 8};
  if (module == "mlp.gate_proj" || module == "mlp.up_proj") return {12, 8};
  if (module == "mlp.down_proj") return {8, 12};
  return {8, 8};
}

inline Model GoodModel() {
  Model model;
  model.config = ParseJson(R"({
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "vocab_size": 16,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
    "quantization_config": {"quant_method": "fp8", "activation_scheme": "static",
                            "kv_cache_scheme": "static", "ignored_layers": ["lm_head"]}})",
                           "config");
  model.Put("model.embed_tokens.weight", Dtype::kBF16, {16, 8});
  model.Put("model.norm.weight", Dtype::kBF16, {8});
  model.Put("lm_head.weight", Dtype::kBF16, {16, 8});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    model.Put(layer + "input_layernorm.weight", Dtype::kBF16, {8});
    model.Put(layer + "post_attention_layernorm.weight", Dtype::kBF16, {8});
    for (const std::string_view module : kLinears) {
      const std::string name = layer + std::string(module);
      model.Put(name + ".weight", Dtype::kF8E4M3, LinearShape(module));
      model.PutScale(name + ".weight_scale", 0.5f);
      model.PutScale(name + ".input_scale", 0.25f);
    }
    model.PutScale(layer + "self_attn.q_scale", 0.125f);
    model.PutScale(layer + "self_attn.k_scale", 0.125f);
    model.PutScale(layer + "self_attn.v_scale", 0.125f);
  }
  return model;
}

inline void WriteModel(const Model& model, const ScratchDirectory& scratch,
                       int64_t max_shard_bytes) {
  scratch.Put("config.json", model.config.dump());
  scratch.Put("tokenizer.json", "{}");
  scratch.Put("tokenizer_config.json", "{}");
  std::vector<TensorSpec> specs;
  for (const auto& [name, spec] : model.tensors) specs.push_back(spec);
  CheckpointWriter writer(scratch.path(), PlanShards(specs, max_shard_bytes));
  for (const TensorSpec& spec : specs) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(spec.bytes()));
    const auto scale = model.scales.find(spec.name);
    if (scale != model.scales.end() && spec.dtype == Dtype::kF32 && bytes.size() == 4) {
      std::memcpy(bytes.data(), &scale->second, 4);
    }
    writer.Write(spec.name, bytes);
  }
  writer.Finish();
}

inline std::vector<std::string> Problems(const Model& model) {
  const ScratchDirectory scratch;
  WriteModel(model, scratch, 1 << 20);
  std::vector<std::string> texts;
  for (const Finding& finding : Inspect(scratch.path()).problems) {
    texts.push_back((finding.severity == Severity::kError ? "error: " : "warning: ") +
                    finding.text);
  }
  return texts;
}

inline const std::string kQ = "model.layers.0.self_attn.q_proj";

}  // namespace narrow::inspected
