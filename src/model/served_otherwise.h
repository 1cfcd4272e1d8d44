// Where vLLM computes a model otherwise than transformers does.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "io/json.h"

namespace narrow {

// What vLLM 0.32 makes of members of a config.json (of the language part, where there are others)
// that transformers, and evaluation here, read otherwise, and which members would say the same to
// both; nothing where the two agree. Throws: kCorruptInput for members of a wrong type.
// Source: vLLM 0.32, models/commandr.py and mistral.py; seen by tools/check_vllm_families.py.
std::optional<std::string> ServedOtherwise(const Json& config, std::string_view architecture,
                                           std::string_view what);

}  // namespace narrow
