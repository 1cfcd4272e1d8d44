// The names that the checkpoints of Llama and its kin give the tensors of a decoder.
#pragma once

#include <string_view>

#include "model/config.h"
#include "model/roles.h"

namespace narrow {

// Tensor names and shapes: q/k/v/o and gate/up/down with a norm before each of the two blocks.
// Source: transformers 5, models/llama/modeling_llama.py and models/qwen2/modeling_qwen2.py.
LayerSpec DecoderLayout(const DecoderConfig& config, int64_t layer);
ModelSpec DecoderModel(const DecoderConfig& config);

// Tables of the rotary embedding: frequencies, and cosines and sines of every position. Source:
// vLLM 0.32, models/utils.py (AutoWeightsLoader), which leaves the same ones out.
bool IsRotaryTable(std::string_view name);

}  // namespace narrow
