// Reads what the config.json of Llama and of its kin have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "io/json.h"
#include "model/config.h"

namespace narrow {

// How a family's config says whether linears have biases.
struct BiasRule {
  std::string_view key = "";  // the member; "": `absent` holds for all of its models
  Bias absent = Bias::kNone;
};
inline constexpr BiasRule kAttentionBias = {"attention_bias"};
inline constexpr BiasRule kMlpBias = {"mlp_bias"};

// What a family's models have in common, and its configuration class takes for members that are not
// there.
struct DecoderDefaults {
  std::string_view architecture;  // "LlamaForCausalLM"
  std::string_view name;          // in messages: "Llama"
  int64_t max_positions = 0;
  int64_t query_heads = 0;      // 0: the config has to say it
  int64_t key_value_heads = 0;  // 0: as many as query heads, which null means in every family
  int64_t head_size = 0;        // 0: hidden_size / num_attention_heads
  NormStyle norms = {};
  double norm_epsilon = 1e-6;
  std::string_view epsilon = "rms_norm_eps";
  double theta = 10000.0;
  bool tied = false;
  BiasRule query_key_value_bias = {};
  BiasRule attention_output_bias = {};
  BiasRule mlp_bias = {};
  Activation activation = Activation::kSilu;
  // Which member has to name it, where it is there; "": the family looks itself.
  std::string_view activation_key = "hidden_act";
  double rotary_share = 1.0;  // partial_rotary_factor
  // Whether the family's models rotate a part of each head where partial_rotary_factor says so.
  enum class Rotation { kWhole, kPartial } rotation = Rotation::kWhole;
  // Whether layers with a window have a rotation of their own: rope_parameters of each kind of
  // layer, or the plain one beside rope_scaling.
  enum class Rotations { kOne, kByLayer } rotations = Rotations::kOne;
};

// What shapes and names of the tensors follow from. Throws: kCorruptInput.
DecoderConfig ReadShapes(const Json& config, std::string_view what, const DecoderDefaults& family);

// Above any published model; it keeps products of dimensions inside int64.
inline constexpr int64_t kMaxDimension = int64_t{1} << 24;

// A whole number from 1 to `maximum`; `absent` where there is none. Throws: kCorruptInput, also
// where there is none and no `absent`.
int64_t ReadDimension(const Json& config, std::string_view key, std::string_view what,
                      int64_t maximum, std::optional<int64_t> absent = {});

// Which layers the member `key` calls `kind`; the others it has to call `other`. Without the member
// those that `absent` names. Throws: kCorruptInput for too short a list, kUnsupported for other
// names.
struct LayerKinds {
  std::string_view key = "layer_types";
  std::string_view kind;
  std::string_view other = "full_attention";
};
std::vector<bool> ReadLayerKinds(const Json& config, std::string_view what, const LayerKinds& kinds,
                                 int64_t layers, const std::function<bool(int64_t layer)>& absent);

// A positive number; `absent` where there is none.
float ReadFactor(const Json& config, std::string_view key, std::string_view what, double absent);

// Which layers see a window of the text: those that "layer_types" calls sliding_attention, or,
// without that member, those that `slides` names. "sliding_window" is its size, `window` where it
// is not there; null is no window at all. Throws: kCorruptInput; kUnsupported for another kind.
inline bool EveryLayer(int64_t) { return true; }
void ReadWindows(const Json& config, std::string_view what, std::optional<int64_t> window,
                 const std::function<bool(int64_t layer)>& slides, DecoderConfig& result);

// The same where without "layer_types" every last of "sliding_window_pattern" layers (`period`
// where it is not there) sees all of the text. Throws: as ReadWindows.
void ReadPeriodicWindows(const Json& config, std::string_view what, int64_t window, int64_t period,
                         DecoderConfig& result);

// The rest: positions, rotary embedding, norms, dtype, as transformers 4 (rope_theta, rope_scaling,
// torch_dtype) and 5 (rope_parameters, dtype) write it. Throws: kCorruptInput; kUnsupported for
// quantized checkpoints, another activation, another rotation.
void ReadArithmetic(const Json& config, std::string_view what, const DecoderDefaults& family,
                    DecoderConfig& result);

// Both. Throws: as they do.
DecoderConfig ReadDecoder(const Json& config, std::string_view what, const DecoderDefaults& family);

// ReadShapes and ReadDecoder as members of a ModelFamily.
template <const DecoderDefaults& family>
DecoderConfig ShapesOf(const Json& config, std::string_view what) {
  return ReadShapes(config, what, family);
}
template <const DecoderDefaults& family>
DecoderConfig ConfigOf(const Json& config, std::string_view what) {
  return ReadDecoder(config, what, family);
}

}  // namespace narrow
