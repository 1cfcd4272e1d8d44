#include "model/decoder_reading.h"

#include <cmath>

#include "io/config_dtype.h"

namespace narrow {
namespace {

// Bounds far above any published model; they keep products of dimensions inside int64.
constexpr int64_t kMaxDimension = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;

int64_t Dimension(const Json& config, std::string_view key, std::string_view what,
                  int64_t maximum) {
  const int64_t value = RequiredInt(config, key, what);
  if (value <= 0 || value > maximum) {
    Fail(ErrorCode::kCorruptInput, "{}: \"{}\" is {}, expected 1 to {}", what, key, value, maximum);
  }
  return value;
}

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

void ParseScaling(const Json& config, const Json& scaling, std::string_view what,
                  std::string_view family, RopeConfig& rope) {
  for (const auto& [name, member] : scaling.items()) {
    if (!member.is_object()) continue;
    Fail(ErrorCode::kUnsupported,
         "{}: the rotary embedding has parameters of its own for {}; expected one set for all "
         "layers",
         what, Quoted(name));
  }
  RefusePartialRotation(scaling, what, family);
  const std::string kind = ScalingKind(scaling, what);
  if (kind == "default") return;
  if (kind == "linear") {
    rope.kind = RopeConfig::Kind::kLinear;
    rope.factor = Positive(scaling, "factor", what);
    return;
  }
  if (kind == "llama3") {
    rope.kind = RopeConfig::Kind::kLlama3;
    rope.factor = Positive(scaling, "factor", what);
    rope.low_frequency_factor = Positive(scaling, "low_freq_factor", what);
    rope.high_frequency_factor = Positive(scaling, "high_freq_factor", what);
    rope.original_positions = OriginalPositions(config, scaling, what);
    if (rope.high_frequency_factor <= rope.low_frequency_factor) {
      Fail(ErrorCode::kCorruptInput, "{}: high_freq_factor {} must exceed low_freq_factor {}", what,
           rope.high_frequency_factor, rope.low_frequency_factor);
    }
    return;
  }
  Fail(ErrorCode::kUnsupported,
       "{}: rotary embedding type {} is not supported; this build knows default, linear, llama3",
       what, Quoted(kind));
}

// As transformers 5 reads it: what rope_scaling says counts before rope_parameters, and within
// either its own theta before that of the config.
RopeConfig ParseRope(const Json& config, std::string_view what, std::string_view family) {
  RopeConfig rope;
  const Json* parameters = OptionalObject(config, "rope_scaling", what);
  if (parameters == nullptr || parameters->empty()) {
    parameters = OptionalObject(config, "rope_parameters", what);
  }
  const Json* theta_holder = parameters != nullptr && parameters->contains("rope_theta")
                                 ? parameters
                             : config.contains("rope_theta") ? &config
                                                             : nullptr;
  if (theta_holder != nullptr) rope.theta = Positive(*theta_holder, "rope_theta", what);
  RefusePartialRotation(config, what, family);
  if (parameters != nullptr) ParseScaling(config, *parameters, what, family, rope);
  return rope;
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

void RefuseUnsupported(const Json& config, std::string_view what) {
  if (config.contains("quantization_config") && !config["quantization_config"].is_null()) {
    Fail(ErrorCode::kUnsupported,
         "{}: the checkpoint is already quantized (quantization_config); start from the original",
         what);
  }
  const std::string activation = OptionalString(config, "hidden_act", what).value_or("silu");
  if (activation != "silu") {
    Fail(ErrorCode::kUnsupported, "{}: hidden_act {} is not supported; expected silu", what,
         Quoted(activation));
  }
}

}  // namespace

DecoderConfig ReadShapes(const Json& config, std::string_view what, const DecoderDefaults& family) {
  DecoderConfig result;
  result.architecture = family.architecture;
  result.vocabulary = Dimension(config, "vocab_size", what, kMaxDimension);
  result.hidden = Dimension(config, "hidden_size", what, kMaxDimension);
  result.intermediate = Dimension(config, "intermediate_size", what, kMaxDimension);
  result.layers = Dimension(config, "num_hidden_layers", what, kMaxLayers);
  result.heads.query_heads = Dimension(config, "num_attention_heads", what, kMaxDimension);
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
  result.lm_head = OptionalBool(config, "tie_word_embeddings", what).value_or(false)
                       ? DecoderConfig::LmHead::kTied
                       : DecoderConfig::LmHead::kOwn;
  return result;
}

void ReadArithmetic(const Json& config, std::string_view what, const DecoderDefaults& family,
                    DecoderConfig& result) {
  RefuseUnsupported(config, what);
  result.max_positions =
      OptionalInt(config, "max_position_embeddings", what).value_or(family.max_positions);
  if (result.max_positions <= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: \"max_position_embeddings\" is {}, expected 1 or more",
         what, result.max_positions);
  }
  const double epsilon = OptionalNumber(config, "rms_norm_eps", what).value_or(1e-6);
  if (!(epsilon >= 0 && epsilon < 1)) {
    Fail(ErrorCode::kCorruptInput, "{}: \"rms_norm_eps\" is {}, expected 0 to 1", what, epsilon);
  }
  result.norm_epsilon = static_cast<float>(epsilon);
  result.rope = ParseRope(config, what, family.name);
  if (const std::optional<Dtype> dtype = ParseDtype(config, what)) {
    result.dtype = *dtype;
    result.dtype_stated = true;
  }
}

}  // namespace narrow
