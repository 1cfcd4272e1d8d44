// The Qwen2 family (Qwen2, Qwen2.5): a Llama whose q, k and v have biases.
#pragma once

#include <string_view>

#include "io/json.h"
#include "model/config.h"

namespace narrow::qwen2 {

// See ModelFamily. What transformers 5.19 and vLLM 0.32 would compute in different ways, and
// sliding windows, is refused. Source: transformers 5, models/qwen2/configuration_qwen2.py and
// modeling_qwen2.py; vLLM 0.32, models/qwen2.py.
DecoderConfig ParseShapes(const Json& config, std::string_view what);
DecoderConfig ParseConfig(const Json& config, std::string_view what);

}  // namespace narrow::qwen2
