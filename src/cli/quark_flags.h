// Flags of quantize_quark.py that narrow does not take, each with the reason and what to do
// instead. Source: Quark 0.13, examples/torch/language_modeling/llm_ptq/quantize_quark.py.
#pragma once

#include <span>
#include <string_view>

namespace narrow {

struct RefusedFlag {
  std::string_view name;    // with underscores, without the leading dashes
  std::string_view reason;  // the end of a sentence that begins with the flag
};

std::span<const RefusedFlag> RefusedFlags();

}  // namespace narrow
