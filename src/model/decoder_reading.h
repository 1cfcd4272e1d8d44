// Reads what the config.json of Llama and of its kin have in common.
#pragma once

#include <cstdint>
#include <string_view>

#include "io/json.h"
#include "model/config.h"

namespace narrow {

// What a family's configuration class takes for a member that is not there.
struct DecoderDefaults {
  std::string_view architecture;  // "LlamaForCausalLM"
  std::string_view name;          // in messages: "Llama"
  int64_t max_positions = 0;
  int64_t key_value_heads = 0;  // 0: as many as query heads, which null means in every family
};

// The sizes of the tensors, without biases. Throws: kCorruptInput.
DecoderConfig ReadShapes(const Json& config, std::string_view what, const DecoderDefaults& family);

// The rest: positions, rotary embedding, norms, dtype, as transformers 4 (rope_theta, rope_scaling,
// torch_dtype) and 5 (rope_parameters, dtype) write it. Throws: kCorruptInput; kUnsupported for
// quantized checkpoints, another activation, another rotation.
void ReadArithmetic(const Json& config, std::string_view what, const DecoderDefaults& family,
                    DecoderConfig& result);

}  // namespace narrow
