// The Llama family: grouped-query attention, RMS norms, SwiGLU, rotary positions.
#pragma once

#include <string_view>

#include "io/json.h"
#include "model/config.h"

namespace narrow::llama {

// See ModelFamily. Source: transformers 5, models/llama/configuration_llama.py.
DecoderConfig ParseShapes(const Json& config, std::string_view what);
DecoderConfig ParseConfig(const Json& config, std::string_view what);

}  // namespace narrow::llama
