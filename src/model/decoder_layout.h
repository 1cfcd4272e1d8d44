// The names that the checkpoints of Llama and its kin give the tensors of a decoder.
#pragma once

#include <string>
#include <string_view>

#include "model/config.h"
#include "model/spec.h"

namespace narrow {

// Tensor names and shapes: q/k/v/o and gate/up/down with a norm before each of the two blocks.
// Source: transformers 5, models/llama/modeling_llama.py and models/qwen2/modeling_qwen2.py.
// Every field of config counts; a family changes what it does in another way.
LayerSpec DecoderLayout(const DecoderConfig& config, int64_t layer);
ModelSpec DecoderModel(const DecoderConfig& config);

// The norm of that module, of a hidden state.
NormSpec DecoderNorm(const DecoderConfig& config, const std::string& module);

// No norm before the blocks, but one after each: post_attention_layernorm and
// post_feedforward_layernorm.
void NormAfterBlocks(const DecoderConfig& config, LayerSpec& spec);

// A norm of every head of Q and of K by weights that the heads share; `query` and `key` are
// the last parts of their modules.
void NormHeads(const DecoderConfig& config, std::string_view query, std::string_view key,
               LayerSpec& spec);

// Makes the linears of a group one that is stored as one matrix, their rows in the same order:
// `name` is the last part of its module.
void StoreTogether(LayerSpec& spec, LinearGroup group, WeightRole role, std::string_view name);

// What module names of the layer begin with: "model.layers.3.".
std::string LayerPrefix(const LayerSpec& spec);

// An MLP without a gate, and what its two modules are called.
void LeaveOutGate(LayerSpec& spec, std::string_view up, std::string_view down);

// What the checkpoints of a family call the tensors of experts: modules and tensors below the
// layer.
struct ExpertNames {
  std::string_view module = "mlp.experts";
  std::string_view router = "mlp.gate";
  std::string_view gate = "gate_proj", up = "up_proj", down = "down_proj";  // of one expert
  std::string_view shared = "";      // the module of the shared expert
  std::string_view token_gate = "";  // of that
  std::string_view correction = "";
  // Tensors of all experts together, and whether those are [experts, inputs, outputs].
  std::string_view all_gate_up = "mlp.experts.gate_up_proj", all_down = "mlp.experts.down_proj";
  std::string_view all_gate_up_bias = "", all_down_bias = "";
  enum class Rows { kInOrder, kTakingTurns } gate_up_rows = Rows::kInOrder;
  bool transposed = false;
};

// Puts experts, and the shared one, in place of the MLP, as config.experts says; nothing for layers
// that have none.
void PutExperts(const DecoderConfig& config, int64_t layer, const ExpertNames& names,
                LayerSpec& spec);

// Whether a tensor is one of the layers that predict further tokens (MTP): below "mtp.", or of a
// layer after the last of the decoder. Serving engines load them to speculate, and not otherwise.
bool IsPredictor(const DecoderConfig& config, std::string_view name);

// Tables of the rotary embedding: frequencies, and cosines and sines of every position. Source:
// vLLM 0.32, models/utils.py (AutoWeightsLoader), which leaves the same ones out.
bool IsRotaryTable(std::string_view name);

}  // namespace narrow
