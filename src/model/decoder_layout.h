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

// Tables of the rotary embedding: frequencies, and cosines and sines of every position. Source:
// vLLM 0.32, models/utils.py (AutoWeightsLoader), which leaves the same ones out.
bool IsRotaryTable(std::string_view name);

}  // namespace narrow
