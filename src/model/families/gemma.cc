// Norms multiply by 1 + weight, the embedding is scaled by the root of its width; from Gemma 2 on
// there are norms after the blocks, too, and layers with a window; Gemma 2 caps scores and logits,
// Gemma 3 norms q and k and rotates layers with a window otherwise.
// Source: transformers 5.19, models/gemma, models/gemma2, models/gemma3; vLLM 0.32.
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

// What a generation's configuration class takes for members that are not there.
struct Generation {
  DecoderDefaults defaults;
  int64_t heads;
  int64_t key_value_heads;
  int64_t period;  // of layers, all but the last of them with a window; 0: none has one
  double score_softcap;
  double logit_softcap;
};
constexpr Generation k1 = {{.architecture = "GemmaForCausalLM",
                            .name = "Gemma",
                            .max_positions = 8192,
                            .tied = true,
                            .activation = Activation::kGeluTanh},
                           16,
                           16,
                           0,
                           0,
                           0};
constexpr Generation k2 = {{.architecture = "Gemma2ForCausalLM",
                            .name = "Gemma 2",
                            .max_positions = 8192,
                            .tied = true,
                            .activation = Activation::kGeluTanh},
                           8,
                           4,
                           2,
                           50,
                           30};
constexpr Generation k3 = {{.architecture = "Gemma3ForCausalLM",
                            .name = "Gemma 3",
                            .max_positions = 131072,
                            .tied = true,
                            .activation = Activation::kGeluTanh},
                           8,
                           4,
                           6,
                           0,
                           0};
constexpr int64_t kWindow = 4096;
constexpr int64_t kScoreScalar = 256;
constexpr double kGlobalTheta = 1e6;
constexpr double kLocalTheta = 1e4;
constexpr float kNormOffset = 1.0f;

// The config with the defaults of sizes written out. hidden_act, which the first releases had
// wrong, is left out: Activation() has looked at it.
Json Complete(const Json& config, const Generation& generation) {
  Json complete = config;
  const auto set = [&](const char* key, const Json& value) {
    if (!complete.contains(key)) complete[key] = value;
  };
  set("num_attention_heads", generation.heads);
  set("num_key_value_heads", generation.key_value_heads);
  set("head_dim", 256);
  complete.erase("hidden_act");
  return complete;
}

DecoderConfig Shapes(const Json& config, std::string_view what, const Generation& generation) {
  DecoderConfig result = ReadShapes(Complete(config, generation), what, generation.defaults);
  if (OptionalBool(config, "attention_bias", what).value_or(false)) {
    result.query_key_value_bias = result.attention_output_bias = Bias::kPresent;
  }
  return result;
}

// transformers takes "gelu" for the approximation, which the models were trained with; so does vLLM
// where it stands in hidden_act.
void CheckActivation(const Json& config, std::string_view what) {
  constexpr std::string_view kTanh = "gelu_pytorch_tanh";
  const std::string named = OptionalString(config, "hidden_activation", what).value_or("");
  const std::string older = OptionalString(config, "hidden_act", what).value_or("");
  if ((named.empty() || named == kTanh) && (older.empty() || older == "gelu" || older == kTanh)) {
    return;
  }
  Fail(ErrorCode::kUnsupported, "{}: the activation is {}; expected \"{}\"", what,
       Quoted(named.empty() ? older : named), kTanh);
}

void RefuseBothDirections(const Json& config, std::string_view what) {
  const auto member = config.find("use_bidirectional_attention");
  if (member == config.end() || member->is_null()) return;
  if (member->is_boolean() && !member->get<bool>()) return;
  Fail(
      ErrorCode::kUnsupported,
      "{}: \"use_bidirectional_attention\" is {}: an encoder, not a language model; expected false",
      what, member->dump());
}

float Cap(const Json& config, const char* key, std::string_view what, double absent) {
  const bool null = config.contains(key) && config[key].is_null();
  const double cap = null ? 0 : OptionalNumber(config, key, what).value_or(absent);
  if (null || cap > 0 || absent == 0) return static_cast<float>(cap);
  Fail(ErrorCode::kCorruptInput, "{}: \"{}\" is {}, expected a positive number or null", what, key,
       cap);
}

// What Gemma 2 and 3 have beyond the first.
void ReadScores(const Json& config, std::string_view what, const Generation& generation,
                int64_t period, DecoderConfig& result) {
  const double scalar = OptionalNumber(config, "query_pre_attn_scalar", what)
                            .value_or(static_cast<double>(kScoreScalar));
  if (!(scalar > 0)) {
    Fail(ErrorCode::kCorruptInput,
         "{}: \"query_pre_attn_scalar\" is {}, expected a positive number", what, scalar);
  }
  result.score_scale = static_cast<float>(1.0 / std::sqrt(scalar));
  result.score_softcap = Cap(config, "attn_logit_softcapping", what, generation.score_softcap);
  result.logit_softcap = Cap(config, "final_logit_softcapping", what, generation.logit_softcap);
  if (period < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: \"sliding_window_pattern\" is {}, expected 1 or more", what,
         period);
  }
  ReadWindows(
      config, what, kWindow, [=](int64_t layer) { return (layer + 1) % period != 0; }, result);
}

DecoderConfig Common(const Json& config, std::string_view what, const Generation& generation,
                     const Json& arithmetic) {
  CheckActivation(config, what);
  RefuseBothDirections(config, what);
  DecoderConfig result = Shapes(config, what, generation);
  ReadArithmetic(arithmetic, what, generation.defaults, result);
  result.embedding_scale = std::sqrt(static_cast<float>(result.hidden));
  return result;
}

// The config with one set of rotary parameters: those of a kind of layers.
Json WithRotation(const Json& config, const char* kind, std::string_view what) {
  const bool global = kind == std::string_view("full_attention");
  const Json* all = OptionalObject(config, "rope_parameters", what);
  const Json* own = all != nullptr ? OptionalObject(*all, kind, what) : nullptr;
  Json rope = own != nullptr ? *own : Json::object();
  if (const Json* scaling = OptionalObject(config, "rope_scaling", what); global && scaling) {
    rope.update(*scaling);
  }
  const char* older = global ? "rope_theta" : "rope_local_base_freq";
  if (!rope.contains("rope_theta")) {
    rope["rope_theta"] =
        OptionalNumber(config, older, what).value_or(global ? kGlobalTheta : kLocalTheta);
  }
  Json one = config;
  for (const char* member : {"rope_theta", "rope_scaling", "rope_parameters"}) one.erase(member);
  one["rope_parameters"] = std::move(rope);
  return one;
}

NormSpec NormOf(const DecoderConfig& config, const std::string& module) {
  NormSpec norm = DecoderNorm(config, module);
  norm.offset = kNormOffset;
  return norm;
}

DecoderConfig ParseShapes1(const Json& config, std::string_view what) {
  return Shapes(config, what, k1);
}
DecoderConfig ParseShapes2(const Json& config, std::string_view what) {
  return Shapes(config, what, k2);
}
DecoderConfig ParseShapes3(const Json& config, std::string_view what) {
  return Shapes(config, what, k3);
}

DecoderConfig ParseConfig1(const Json& config, std::string_view what) {
  return Common(config, what, k1, Complete(config, k1));
}

DecoderConfig ParseConfig2(const Json& config, std::string_view what) {
  DecoderConfig result = Common(config, what, k2, Complete(config, k2));
  ReadScores(config, what, k2, k2.period, result);
  return result;
}

DecoderConfig ParseConfig3(const Json& config, std::string_view what) {
  const Json complete = Complete(config, k3);
  DecoderConfig result = Common(config, what, k3, WithRotation(complete, "full_attention", what));
  ReadScores(config, what, k3,
             OptionalInt(config, "sliding_window_pattern", what).value_or(k3.period), result);
  if (config.contains("sliding_window") && config["sliding_window"].is_null()) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"sliding_window\" is null: which layers rotate as those with a window do is not "
         "said; expected a number",
         what);
  }
  DecoderConfig local = result;
  ReadArithmetic(WithRotation(complete, "sliding_attention", what), what, k3.defaults, local);
  result.window_rope = local.rope;
  return result;
}

LayerSpec Layer1(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  for (const NormPlace place : {NormPlace::kBeforeAttention, NormPlace::kBeforeMlp}) {
    spec.Norm(place)->offset = kNormOffset;
  }
  return spec;
}

LayerSpec Layer2(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  const std::string prefix = LayerPrefix(spec);
  spec.Norm(NormPlace::kBeforeAttention) = NormOf(config, prefix + "input_layernorm");
  spec.Norm(NormPlace::kAfterAttention) = NormOf(config, prefix + "post_attention_layernorm");
  spec.Norm(NormPlace::kBeforeMlp) = NormOf(config, prefix + "pre_feedforward_layernorm");
  spec.Norm(NormPlace::kAfterMlp) = NormOf(config, prefix + "post_feedforward_layernorm");
  return spec;
}

LayerSpec Layer3(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = Layer2(config, layer);
  for (const auto& [place, name] :
       {std::pair{NormPlace::kQuery, ".q_norm"}, std::pair{NormPlace::kKey, ".k_norm"}}) {
    NormSpec norm = NormOf(config, spec.attention_module + name);
    norm.size = norm.segment = config.heads.head_size;
    spec.Norm(place) = norm;
  }
  return spec;
}

ModelSpec Model(const DecoderConfig& config) {
  ModelSpec spec = DecoderModel(config);
  spec.final_norm.offset = kNormOffset;
  return spec;
}

}  // namespace

ModelFamily GemmaFamily() {
  return {"GemmaForCausalLM", "gemma", "Gemma", &ParseShapes1, &ParseConfig1, &Layer1, &Model,
          &IsRotaryTable,     true};
}

ModelFamily Gemma2Family() {
  return {"Gemma2ForCausalLM", "gemma2", "Gemma 2", &ParseShapes2, &ParseConfig2, &Layer2, &Model,
          &IsRotaryTable,      true};
}

ModelFamily Gemma3Family() {
  return {"Gemma3ForCausalLM",
          "gemma3_text",
          "Gemma 3, the text models",
          &ParseShapes3,
          &ParseConfig3,
          &Layer3,
          &Model,
          &IsRotaryTable,
          true};
}

}  // namespace narrow
