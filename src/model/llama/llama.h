// The Llama family: grouped-query attention, RMS norms, SwiGLU, rotary positions.
#pragma once

#include <string_view>

#include "io/json.h"
#include "model/config.h"
#include "model/roles.h"

namespace narrow::llama {

// Reads config.json as transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5
// (rope_parameters, dtype) write it. Throws: kCorruptInput, kUnsupported (see ModelFamily). Source:
// transformers 5, models/llama/configuration_llama.py.
DecoderConfig ParseConfig(const Json& config, std::string_view what);

// Tensor names and shapes. Source: transformers 5, models/llama/modeling_llama.py.
LayerSpec Layer(const DecoderConfig& config, int64_t layer);
ModelSpec Model(const DecoderConfig& config);

// Tables of the rotary embedding: frequencies, and cosines and sines of every position. Source:
// vLLM 0.32, models/utils.py (AutoWeightsLoader), which leaves the same ones out.
bool IsDerived(std::string_view name);

}  // namespace narrow::llama
