// Reads what the config.json of Llama and of its kin have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
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
  int64_t head_size = 0;        // 0: hidden_size / num_attention_heads
  double norm_epsilon = 1e-6;
  double theta = 10000.0;
  bool tied = false;
  std::string_view epsilon = "rms_norm_eps";
  Activation activation = Activation::kSilu;
  double rotary_share = 1.0;  // partial_rotary_factor
  // Whether the family's models rotate a part of each head where partial_rotary_factor says so.
  enum class Rotation { kWhole, kPartial } rotation = Rotation::kWhole;
  // Whether layers with a window have a rotation of their own: rope_parameters of each kind of
  // layer, or the plain one beside rope_scaling.
  enum class Rotations { kOne, kByLayer } rotations = Rotations::kOne;
};

// The sizes of the tensors, without biases. Throws: kCorruptInput.
DecoderConfig ReadShapes(const Json& config, std::string_view what, const DecoderDefaults& family);

// A member that says whether linears have biases.
Bias ReadBias(const Json& config, std::string_view key, std::string_view what, bool absent);

// A positive number; `absent` where there is none.
float ReadFactor(const Json& config, std::string_view key, std::string_view what, double absent);

// Which layers see a window of the text: those that "layer_types" calls sliding_attention, or,
// without that member, those that `slides` names. "sliding_window" is its size, `window` where it
// is not there; null is no window at all. Throws: kCorruptInput; kUnsupported for another kind.
void ReadWindows(const Json& config, std::string_view what, std::optional<int64_t> window,
                 const std::function<bool(int64_t layer)>& slides, DecoderConfig& result);

// The rest: positions, rotary embedding, norms, dtype, as transformers 4 (rope_theta, rope_scaling,
// torch_dtype) and 5 (rope_parameters, dtype) write it. Throws: kCorruptInput; kUnsupported for
// quantized checkpoints, another activation, another rotation.
void ReadArithmetic(const Json& config, std::string_view what, const DecoderDefaults& family,
                    DecoderConfig& result);

}  // namespace narrow
