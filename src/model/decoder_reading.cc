#include "model/decoder_reading.h"

#include <cmath>

#include "io/config_dtype.h"

namespace narrow {
namespace {

constexpr int64_t kMaxLayers = 4096;  // far above any published model

double Positive(const Json& object, std::string_view key, std::string_view what) {
  const double value = RequiredNumber(object, key, what);
  if (!(value > 0) || !std::isfinite(value)) {
    Fail(ErrorCode::kCorruptInput, "{}: \"{}\" is {}, expected a positive number", what, key,
         value);
  }
  return value;
}

// transformers before 4.43 calls the key "type".
std::string ScalingKind(const Json& scaling, std::string_view what) {
  const std::optional<std::string> kind = OptionalString(scaling, "rope_type", what);
  const std::optional<std::string> older = OptionalString(scaling, "type", what);
  if (kind && older && *kind != *older) {
    Fail(ErrorCode::kUnsupported,
         "{}: the rotary embedding has \"rope_type\" {} and \"type\" {}; programs differ in which "
         "one they read: keep one of the two",
         what, Quoted(*kind), Quoted(*older));
  }
  return kind.value_or(older.value_or("default"));
}

// Positions the model was trained on: those beside the other members, or, where there are none,
// max_position_embeddings. transformers 5 takes a member of the config itself before either.
double OriginalPositions(const Json& config, const Json& scaling, std::string_view what) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  const std::optional<double> outer = OptionalNumber(config, kKey, what);
  const std::optional<double> inner = OptionalNumber(scaling, kKey, what);
  if (outer && inner && *outer != *inner) {
    Fail(
        ErrorCode::kUnsupported,
        "{}: \"{}\" is {} in the config and {} among the members of the rotary embedding; programs "
        "differ in which one they read: keep one of the two",
        what, kKey, *outer, *inner);
  }
  if (outer) return Positive(config, kKey, what);
  return Positive(inner ? scaling : config, inner ? kKey : "max_position_embeddings", what);
}

// vLLM rotates a part of each head where this is less than 1, transformers' models here the whole.
void RefusePartialRotation(const Json& object, std::string_view what, std::string_view family) {
  const std::optional<double> share = OptionalNumber(object, "partial_rotary_factor", what);
  if (share && *share != 1.0) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"partial_rotary_factor\" is {}: programs differ in what a {} does with it; "
         "expected 1, or no such member",
         what, *share, family);
  }
}

// Nothing, or a number: null and 0 count as nothing, as `or` has it in Python.
double NumberOr(const Json& scaling, std::string_view key, std::string_view what, double absent) {
  const double value = OptionalNumber(scaling, key, what).value_or(0.0);
  return value == 0.0 ? absent : value;
}

double YarnScale(double factor, double strength) {
  return factor <= 1.0 ? 1.0 : 0.1 * strength * std::log(factor) + 1.0;
}

void ParseYarn(const Json& config, const Json& scaling, std::string_view what, RopeConfig& rope) {
  rope.kind = RopeConfig::Kind::kYarn;
  rope.original_positions = OriginalPositions(config, scaling, what);
  const bool stated = scaling.contains("factor") && !scaling["factor"].is_null();
  rope.factor = stated
                    ? Positive(scaling, "factor", what)
                    : Positive(config, "max_position_embeddings", what) / rope.original_positions;
  rope.beta_fast = NumberOr(scaling, "beta_fast", what, 32.0);
  rope.beta_slow = NumberOr(scaling, "beta_slow", what, 1.0);
  rope.truncated = OptionalBool(scaling, "truncate", what).value_or(true);
  const double strength = NumberOr(scaling, "mscale", what, 0.0);
  const double all = NumberOr(scaling, "mscale_all_dim", what, 0.0);
  const double by_factor = strength != 0.0 && all != 0.0
                               ? YarnScale(rope.factor, strength) / YarnScale(rope.factor, all)
                               : YarnScale(rope.factor, 1.0);
  rope.attention_factor = OptionalNumber(scaling, "attention_factor", what).value_or(by_factor);
}

std::vector<double> Factors(const Json& scaling, std::string_view key, std::string_view what,
                            int64_t frequencies) {
  const Json* array = OptionalArray(scaling, key, what);
  if (array == nullptr || std::ssize(*array) != frequencies) {
    Fail(ErrorCode::kCorruptInput,
         "{}: \"{}\" has {} numbers, expected one for each of the {} "
         "frequencies",
         what, key, array == nullptr ? 0 : std::ssize(*array), frequencies);
  }
  std::vector<double> factors;
  for (const Json& factor : *array) {
    if (!factor.is_number() || !(factor.get<double>() > 0)) {
      Fail(ErrorCode::kCorruptInput, "{}: \"{}\" holds {}, expected positive numbers", what, key,
           factor.dump());
    }
    factors.push_back(factor.get<double>());
  }
  return factors;
}

// vLLM serves the long factors where its max_model_len, by default max_position_embeddings, exceeds
// the original length. Source: vLLM 0.32, rotary_embedding/phi3_long_rope_scaled_rope.py.
void ParseLongRope(const Json& config, const Json& scaling, std::string_view what,
                   int64_t frequencies, RopeConfig& rope) {
  rope.kind = RopeConfig::Kind::kLongRope;
  rope.original_positions = OriginalPositions(config, scaling, what);
  const double whole = Positive(config, "max_position_embeddings", what);
  rope.factors = rope.long_factors = Factors(scaling, "long_factor", what, frequencies);
  rope.short_factors = Factors(scaling, "short_factor", what, frequencies);
  if (whole <= rope.original_positions) rope.factors = rope.short_factors;
  const double factor =
      OptionalNumber(scaling, "factor", what).value_or(whole / rope.original_positions);
  const double by_length =
      factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(factor) / std::log(rope.original_positions));
  rope.attention_factor = OptionalNumber(scaling, "attention_factor", what).value_or(by_length);
}

void ParseLlama3(const Json& config, const Json& scaling, std::string_view what, RopeConfig& rope) {
  rope.kind = RopeConfig::Kind::kLlama3;
  rope.factor = Positive(scaling, "factor", what);
  rope.low_frequency_factor = Positive(scaling, "low_freq_factor", what);
  rope.high_frequency_factor = Positive(scaling, "high_freq_factor", what);
  rope.original_positions = OriginalPositions(config, scaling, what);
  if (rope.high_frequency_factor <= rope.low_frequency_factor) {
    Fail(ErrorCode::kCorruptInput, "{}: high_freq_factor {} must exceed low_freq_factor {}", what,
         rope.high_frequency_factor, rope.low_frequency_factor);
  }
}

// `frequencies`: half of the channels that turn.
void ParseScaling(const Json& config, const Json& scaling, std::string_view what,
                  int64_t frequencies, RopeConfig& rope) {
  const std::string kind = ScalingKind(scaling, what);
  if (kind == "default") return;
  if (kind == "linear") {
    rope.kind = RopeConfig::Kind::kLinear;
    rope.factor = Positive(scaling, "factor", what);
    return;
  }
  if (kind == "llama3") return ParseLlama3(config, scaling, what, rope);
  if (kind == "yarn") return ParseYarn(config, scaling, what, rope);
  if (kind == "longrope") return ParseLongRope(config, scaling, what, frequencies, rope);
  if (kind == "dynamic") {
    // The plain frequencies up to that length; beyond, they would depend on the text.
    rope.longest = static_cast<int64_t>(Positive(config, "max_position_embeddings", what));
    return;
  }
  Fail(ErrorCode::kUnsupported,
       "{}: rotary embedding type {} is not supported; this build knows default, linear, llama3, "
       "yarn, dynamic, longrope",
       what, Quoted(kind));
}

void RefuseKindsOfLayers(const Json& parameters, std::string_view what) {
  for (const auto& [name, member] : parameters.items()) {
    if (!member.is_object()) continue;
    Fail(ErrorCode::kUnsupported,
         "{}: the rotary embedding has parameters of its own for {}; expected one set for all "
         "layers",
         what, Quoted(name));
  }
}

double ReadRotaryShare(const Json& config, const Json* parameters, std::string_view what,
                       const DecoderDefaults& family) {
  if (family.rotation == DecoderDefaults::Rotation::kWhole) {
    if (parameters != nullptr) RefusePartialRotation(*parameters, what, family.name);
    RefusePartialRotation(config, what, family.name);
    return 1.0;
  }
  std::optional<double> share;
  if (parameters != nullptr) share = OptionalNumber(*parameters, "partial_rotary_factor", what);
  if (!share) share = OptionalNumber(config, "partial_rotary_factor", what);
  const double value = share.value_or(family.rotary_share);
  if (!(value > 0.0 && value <= 1.0)) {
    Fail(ErrorCode::kCorruptInput, "{}: \"partial_rotary_factor\" is {}, expected 0 to 1", what,
         value);
  }
  return value;
}

// The rotation that `parameters` (null: none) describe, with theta of their own or of the config.
RopeConfig ParseRotation(const Json& config, const Json* parameters, std::string_view what,
                         const DecoderDefaults& family, int64_t frequencies) {
  RopeConfig rope;
  const Json* theta_holder = parameters != nullptr && parameters->contains("rope_theta")
                                 ? parameters
                             : config.contains("rope_theta") ? &config
                                                             : nullptr;
  rope.theta = theta_holder != nullptr ? Positive(*theta_holder, "rope_theta", what) : family.theta;
  if (parameters != nullptr) ParseScaling(config, *parameters, what, frequencies, rope);
  return rope;
}

// As transformers 5 reads it: what rope_scaling says counts before rope_parameters, and within
// either its own theta before that of the config. With a rotation for each kind of layer, it is
// that of full_attention which rope_scaling changes.
void ParseRope(const Json& config, std::string_view what, const DecoderDefaults& family,
               DecoderConfig& result) {
  const Json* scaling = OptionalObject(config, "rope_scaling", what);
  if (scaling != nullptr && scaling->empty()) scaling = nullptr;
  const Json* parameters = OptionalObject(config, "rope_parameters", what);
  const Json* whole = scaling != nullptr ? scaling : parameters;
  const bool by_layer = family.rotations == DecoderDefaults::Rotations::kByLayer;
  const Json* local = nullptr;
  if (by_layer && parameters != nullptr && scaling == nullptr) {
    local = OptionalObject(*parameters, "sliding_attention", what);
    if (const Json* full = OptionalObject(*parameters, "full_attention", what)) whole = full;
  } else if (whole != nullptr) {
    RefuseKindsOfLayers(*whole, what);
  }
  result.rotary_share = ReadRotaryShare(config, whole, what, family);
  const double turned = static_cast<double>(result.heads.head_size) * result.rotary_share;
  const int64_t frequencies = static_cast<int64_t>(turned) / 2;
  if (frequencies == 0 || static_cast<int64_t>(turned) % 2 != 0) {
    Fail(ErrorCode::kCorruptInput,
         "{}: {} of {} channels of a head would be rotated, expected an even number", what, turned,
         result.heads.head_size);
  }
  result.rope = ParseRotation(config, whole, what, family, frequencies);
  if (by_layer) result.window_rope = ParseRotation(config, local, what, family, frequencies);
}

// Nothing where the weights have to say it.
std::optional<Dtype> ParseDtype(const Json& config, std::string_view what) {
  const std::optional<std::string> name = StatedDtype(config);
  if (!name) {
    static_cast<void>(OptionalString(config, "dtype", what));  // another kind of value is refused
    static_cast<void>(OptionalString(config, "torch_dtype", what));
    return std::nullopt;
  }
  if (*name == "bfloat16") return Dtype::kBF16;
  if (*name == "float16") return Dtype::kF16;
  if (*name == "float32") return Dtype::kF32;
  Fail(ErrorCode::kUnsupported,
       "{}: weights of type {} are not supported; expected bfloat16, float16 or float32", what,
       Quoted(*name));
}

std::string_view NameOf(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return "silu";
    case Activation::kGeluTanh:
      return "gelu_pytorch_tanh";
    default:
      return "relu2";
  }
}

void RefuseUnsupported(const Json& config, std::string_view what, const DecoderDefaults& family) {
  if (config.contains("quantization_config") && !config["quantization_config"].is_null()) {
    Fail(ErrorCode::kUnsupported,
         "{}: the checkpoint is already quantized (quantization_config); start from the original",
         what);
  }
  if (family.activation_key.empty()) return;
  const auto activation = OptionalString(config, family.activation_key, what);
  if (activation && *activation != NameOf(family.activation)) {
    Fail(ErrorCode::kUnsupported, "{}: {} {} is not supported; expected {}", what,
         family.activation_key, Quoted(*activation), NameOf(family.activation));
  }
}

Bias ReadBias(const Json& config, const BiasRule& rule, std::string_view what) {
  const std::optional<bool> biased =
      rule.key.empty() ? std::nullopt : OptionalBool(config, rule.key, what);
  if (!biased) return rule.absent;
  return *biased ? Bias::kPresent : Bias::kNone;
}

}  // namespace

DecoderConfig ReadShapes(const Json& config, std::string_view what, const DecoderDefaults& family) {
  DecoderConfig result;
  result.architecture = family.architecture;
  result.vocabulary = ReadDimension(config, "vocab_size", what, kMaxDimension);
  result.hidden = ReadDimension(config, "hidden_size", what, kMaxDimension);
  result.intermediate = ReadDimension(config, "intermediate_size", what, kMaxDimension);
  result.layers = ReadDimension(config, "num_hidden_layers", what, kMaxLayers);
  constexpr std::string_view kHeads = "num_attention_heads";
  result.heads.query_heads = family.query_heads != 0 && !config.contains(kHeads)
                                 ? family.query_heads
                                 : ReadDimension(config, kHeads, what, kMaxDimension);
  const int64_t shared = config.contains("num_key_value_heads") ? 0 : family.key_value_heads;
  result.heads.key_value_heads = OptionalInt(config, "num_key_value_heads", what)
                                     .value_or(shared != 0 ? shared : result.heads.query_heads);
  if (result.heads.key_value_heads <= 0 ||
      result.heads.query_heads % result.heads.key_value_heads != 0) {
    Fail(ErrorCode::kCorruptInput, "{}: {} attention heads cannot share {} key-value heads", what,
         result.heads.query_heads, result.heads.key_value_heads);
  }
  if (const auto head_size = OptionalInt(config, "head_dim", what)) {
    result.heads.head_size = *head_size;
  } else if (family.head_size != 0 && !config.contains("head_dim")) {
    result.heads.head_size = family.head_size;
  } else if (result.hidden % result.heads.query_heads == 0) {
    result.heads.head_size = result.hidden / result.heads.query_heads;
  }
  if (result.heads.head_size <= 0 || result.heads.head_size % 2 != 0 ||
      result.heads.head_size > 4096) {
    Fail(
        ErrorCode::kCorruptInput,
        "{}: head size {} (head_dim, or hidden_size / num_attention_heads) must be even, 2 to 4096",
        what, result.heads.head_size);
  }
  result.lm_head = OptionalBool(config, "tie_word_embeddings", what).value_or(family.tied)
                       ? DecoderConfig::LmHead::kTied
                       : DecoderConfig::LmHead::kOwn;
  result.norms = family.norms;
  result.query_key_value_bias = ReadBias(config, family.query_key_value_bias, what);
  result.attention_output_bias = ReadBias(config, family.attention_output_bias, what);
  result.mlp_bias = ReadBias(config, family.mlp_bias, what);
  return result;
}

void ReadArithmetic(const Json& config, std::string_view what, const DecoderDefaults& family,
                    DecoderConfig& result) {
  RefuseUnsupported(config, what, family);
  result.activation = family.activation;
  result.max_positions =
      OptionalInt(config, "max_position_embeddings", what).value_or(family.max_positions);
  if (result.max_positions <= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: \"max_position_embeddings\" is {}, expected 1 or more",
         what, result.max_positions);
  }
  const double epsilon = OptionalNumber(config, family.epsilon, what).value_or(family.norm_epsilon);
  if (!(epsilon >= 0 && epsilon < 1)) {
    Fail(ErrorCode::kCorruptInput, "{}: \"{}\" is {}, expected 0 to 1", what, family.epsilon,
         epsilon);
  }
  result.norm_epsilon = static_cast<float>(epsilon);
  ParseRope(config, what, family, result);
  if (const std::optional<Dtype> dtype = ParseDtype(config, what)) {
    result.dtype = *dtype;
    result.dtype_stated = true;
  }
}

DecoderConfig ReadDecoder(const Json& config, std::string_view what,
                          const DecoderDefaults& family) {
  DecoderConfig result = ReadShapes(config, what, family);
  ReadArithmetic(config, what, family, result);
  return result;
}

float ReadFactor(const Json& config, std::string_view key, std::string_view what, double absent) {
  if (!OptionalNumber(config, key, what)) return static_cast<float>(absent);
  return static_cast<float>(Positive(config, key, what));
}

int64_t ReadDimension(const Json& config, std::string_view key, std::string_view what,
                      int64_t maximum, std::optional<int64_t> absent) {
  const int64_t value =
      absent ? OptionalInt(config, key, what).value_or(*absent) : RequiredInt(config, key, what);
  if (value < 1 || value > maximum) {
    Fail(ErrorCode::kCorruptInput, "{}: \"{}\" is {}, expected 1 to {}", what, key, value, maximum);
  }
  return value;
}

std::vector<bool> ReadLayerKinds(const Json& config, std::string_view what, const LayerKinds& kinds,
                                 int64_t layers, const std::function<bool(int64_t layer)>& absent) {
  const Json* named = OptionalArray(config, kinds.key, what);
  if (named != nullptr && std::ssize(*named) < layers) {
    Fail(ErrorCode::kCorruptInput, "{}: \"{}\" names {} layers, the model has {}", what, kinds.key,
         std::ssize(*named), layers);
  }
  std::vector<bool> found;
  for (int64_t layer = 0; layer < layers; ++layer) {
    if (named == nullptr) {
      found.push_back(absent(layer));
      continue;
    }
    const Json& kind = (*named)[static_cast<std::size_t>(layer)];
    found.push_back(kind == kinds.kind);
    if (found.back() || kind == kinds.other) continue;
    Fail(ErrorCode::kUnsupported, "{}: \"{}\" holds {}; expected \"{}\" or \"{}\"", what, kinds.key,
         kind.dump(), kinds.other, kinds.kind);
  }
  return found;
}

void ReadWindows(const Json& config, std::string_view what, std::optional<int64_t> window,
                 const std::function<bool(int64_t layer)>& slides, DecoderConfig& result) {
  if (config.contains("sliding_window")) window = OptionalInt(config, "sliding_window", what);
  if (window && *window <= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: \"sliding_window\" is {}, expected 1 or more", what,
         *window);
  }
  const std::vector<bool> local =
      ReadLayerKinds(config, what, {.kind = "sliding_attention"}, result.layers, slides);
  result.windows.clear();
  for (const bool slides_here : local) {
    result.windows.push_back(slides_here && window ? *window : 0);
  }
}

void ReadPeriodicWindows(const Json& config, std::string_view what, int64_t window, int64_t period,
                         DecoderConfig& result) {
  period = OptionalInt(config, "sliding_window_pattern", what).value_or(period);
  if (period < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: \"sliding_window_pattern\" is {}, expected 1 or more", what,
         period);
  }
  const auto slides = [=](int64_t layer) { return (layer + 1) % period != 0; };
  ReadWindows(config, what, window, slides, result);
}

}  // namespace narrow
