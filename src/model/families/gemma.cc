// Norms multiply by 1 + weight, the embedding is scaled by the root of its width; from Gemma 2 on
// there are norms after the blocks, too, and layers with a window; Gemma 2 caps scores and logits,
// Gemma 3 norms q and k and rotates layers with a window otherwise.
// Source: transformers 5.19, models/gemma, models/gemma2, models/gemma3; vLLM 0.32.
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults Defaults(std::string_view architecture, std::string_view name,
                                   int64_t max_positions, int64_t heads, int64_t key_value_heads) {
  return {.architecture = architecture,
          .name = name,
          .max_positions = max_positions,
          .query_heads = heads,
          .key_value_heads = key_value_heads,
          .head_size = 256,
          .norms = {.offset = 1.0f},
          .tied = true,
          .query_key_value_bias = kAttentionBias,
          .attention_output_bias = kAttentionBias,
          .activation = Activation::kGeluTanh,
          .activation_key = ""};
}
constexpr DecoderDefaults k1 = Defaults("GemmaForCausalLM", "Gemma", 8192, 16, 16);
constexpr DecoderDefaults k2 = Defaults("Gemma2ForCausalLM", "Gemma 2", 8192, 8, 4);
constexpr DecoderDefaults k3 = Defaults("Gemma3ForCausalLM", "Gemma 3", 131072, 8, 4);

constexpr int64_t kWindow = 4096;
constexpr int64_t kPeriod2 = 2;  // of layers, all but the last of them with a window
constexpr int64_t kPeriod3 = 6;
constexpr double kScoreSoftcap2 = 50;
constexpr double kLogitSoftcap2 = 30;
constexpr double kScoreScalar = 256;
constexpr double kGlobalTheta = 1e6;
constexpr double kLocalTheta = 1e4;

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

// What Gemma 2 and 3 have beyond the first; 0 is no cap.
void ReadScores(const Json& config, std::string_view what, double score_softcap,
                double logit_softcap, DecoderConfig& result) {
  const double scalar =
      OptionalNumber(config, "query_pre_attn_scalar", what).value_or(kScoreScalar);
  if (!(scalar > 0)) {
    Fail(ErrorCode::kCorruptInput,
         "{}: \"query_pre_attn_scalar\" is {}, expected a positive number", what, scalar);
  }
  result.score_scale = static_cast<float>(1.0 / std::sqrt(scalar));
  result.score_softcap = Cap(config, "attn_logit_softcapping", what, score_softcap);
  result.logit_softcap = Cap(config, "final_logit_softcapping", what, logit_softcap);
}

// `rotation`: the config, or one that has its rotation alone.
DecoderConfig Common(const Json& config, std::string_view what, const DecoderDefaults& defaults,
                     const Json& rotation) {
  CheckActivation(config, what);
  RefuseBothDirections(config, what);
  DecoderConfig result = ReadShapes(config, what, defaults);
  ReadArithmetic(rotation, what, defaults, result);
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

DecoderConfig ParseConfig1(const Json& config, std::string_view what) {
  return Common(config, what, k1, config);
}

DecoderConfig ParseConfig2(const Json& config, std::string_view what) {
  DecoderConfig result = Common(config, what, k2, config);
  ReadScores(config, what, kScoreSoftcap2, kLogitSoftcap2, result);
  const auto slides = [](int64_t layer) { return (layer + 1) % kPeriod2 != 0; };
  ReadWindows(config, what, kWindow, slides, result);
  return result;
}

DecoderConfig ParseConfig3(const Json& config, std::string_view what) {
  DecoderConfig result = Common(config, what, k3, WithRotation(config, "full_attention", what));
  ReadScores(config, what, 0, 0, result);
  ReadPeriodicWindows(config, what, kWindow, kPeriod3, result);
  if (config.contains("sliding_window") && config["sliding_window"].is_null()) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"sliding_window\" is null: which layers rotate as those with a window do is not "
         "said; expected a number",
         what);
  }
  DecoderConfig local = result;
  ReadArithmetic(WithRotation(config, "sliding_attention", what), what, k3, local);
  result.window_rope = local.rope;
  return result;
}

LayerSpec Layer2(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = DecoderLayout(config, layer);
  const std::string prefix = LayerPrefix(spec);
  spec.Norm(NormPlace::kAfterAttention) = DecoderNorm(config, prefix + "post_attention_layernorm");
  spec.Norm(NormPlace::kBeforeMlp) = DecoderNorm(config, prefix + "pre_feedforward_layernorm");
  spec.Norm(NormPlace::kAfterMlp) = DecoderNorm(config, prefix + "post_feedforward_layernorm");
  return spec;
}

LayerSpec Layer3(const DecoderConfig& config, int64_t layer) {
  LayerSpec spec = Layer2(config, layer);
  NormHeads(config, "q_norm", "k_norm", spec);
  return spec;
}

}  // namespace

ModelFamily GemmaFamily() {
  return {.architecture = k1.architecture,
          .model_type = "gemma",
          .description = "Gemma",
          .parse_shapes = &ShapesOf<k1>,
          .parse_config = &ParseConfig1,
          .begins_windows = true,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

ModelFamily Gemma2Family() {
  return {.architecture = k2.architecture,
          .model_type = "gemma2",
          .description = "Gemma 2",
          .parse_shapes = &ShapesOf<k2>,
          .parse_config = &ParseConfig2,
          .layer = &Layer2,
          .begins_windows = true,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

ModelFamily Gemma3Family() {
  return {.architecture = k3.architecture,
          .model_type = "gemma3_text",
          .description = "Gemma 3, the text models",
          .parse_shapes = &ShapesOf<k3>,
          .parse_config = &ParseConfig3,
          .layer = &Layer3,
          .begins_windows = true,
          .cache_names = ModelFamily::CacheNames::kOfAttention};
}

}  // namespace narrow
