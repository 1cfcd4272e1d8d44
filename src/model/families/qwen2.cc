#include "model/decoder_reading.h"
#include "model/families/families.h"

namespace narrow {
namespace {

constexpr DecoderDefaults kDefaults = {.architecture = "Qwen2ForCausalLM",
                                       .name = "Qwen2",
                                       .max_positions = 32768,
                                       .key_value_heads = 32,
                                       .query_key_value_bias = {.absent = Bias::kPresent}};

// transformers gives the window to the layers that layer_types, or else max_window_layers, names;
// vLLM gives it to all layers.
void RefuseSlidingWindow(const Json& config, std::string_view what) {
  const bool null_window = config.contains("sliding_window") && config["sliding_window"].is_null();
  if (OptionalBool(config, "use_sliding_window", what).value_or(false) && !null_window) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"use_sliding_window\" is true, with a window of {} tokens: attention here sees all "
         "tokens; expected false",
         what, OptionalInt(config, "sliding_window", what).value_or(4096));
  }
  const Json* kinds = OptionalArray(config, "layer_types", what);
  if (kinds == nullptr) return;
  for (const Json& kind : *kinds) {
    const std::string name = kind.is_string() ? kind.get<std::string>() : kind.dump();
    if (name == "full_attention") continue;
    Fail(ErrorCode::kUnsupported,
         "{}: \"layer_types\" holds {}: attention here sees all tokens; expected "
         "\"full_attention\" alone",
         what, Quoted(name));
  }
}

// Members that vLLM heeds and transformers does not, or the other way round.
void RefuseOtherAttention(const Json& config, const DecoderConfig& read, std::string_view what) {
  if (!OptionalBool(config, "is_causal", what).value_or(true)) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"is_causal\" is false: an encoder, not a language model; expected true", what);
  }
  if (OptionalObject(config, "dual_chunk_attention_config", what) != nullptr) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"dual_chunk_attention_config\" is there: vLLM computes attention in chunks, "
         "transformers does not; remove it for texts as long as the model was trained on",
         what);
  }
  if (read.query_width() != read.hidden) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"head_dim\" is {}, but vLLM takes hidden_size / num_attention_heads for every "
         "Qwen2, {} / {}; expected no such member",
         what, read.heads.head_size, read.hidden, read.heads.query_heads);
  }
}

DecoderConfig ParseConfig(const Json& config, std::string_view what) {
  DecoderConfig result = ReadDecoder(config, what, kDefaults);
  RefuseSlidingWindow(config, what);
  RefuseOtherAttention(config, result, what);
  return result;
}

}  // namespace

ModelFamily Qwen2Family() {
  return {.architecture = kDefaults.architecture,
          .model_type = "qwen2",
          .description = "Qwen2 and Qwen2.5",
          .parse_shapes = &ShapesOf<kDefaults>,
          .parse_config = &ParseConfig};
}

}  // namespace narrow
