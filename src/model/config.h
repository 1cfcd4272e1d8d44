// What a decoder-only transformer needs to run, read from a Hugging Face config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention_heads.h"
#include "kernels/elementwise.h"
#include "model/roles.h"
#include "model/rope_config.h"
#include "model/spec.h"
#include "tensor/dtype.h"

namespace narrow {

// What a checkpoint calls the tensors of a decoder. Multimodal models hold theirs under other
// names.
struct TensorNames {
  std::string body = "model.";   // before "layers.0." and "embed_tokens"
  std::string head = "lm_head";  // a module
};

// A tensor beside the decoder, of a vision tower or a projector: copied as it is.
struct OtherTensor {
  std::string name;
  int64_t bytes = 0;
  std::string linear;  // the module whose matrix it is, for quantization configs; "" for none
};

// What the norms of a model have in common.
struct NormStyle {
  NormSpec::Kind kind = NormSpec::Kind::kRms;
  float offset = 0.0f;  // added to the weight
  Bias bias = Bias::kNone;
};

// What the layers with experts of a model have in common.
struct ExpertsConfig {
  int64_t count = 0;  // 0: no layer has any
  int64_t per_token = 0;
  int64_t width = 0;
  int64_t shared_width = 0;  // of the expert that every token goes through; 0: none
  Routing routing;
  Bias bias = Bias::kNone;  // of their linears
  std::optional<ClampedGate> clamped = {};
  std::vector<bool> layers = {};  // whether each has experts
  // Whether a checkpoint holds a tensor for each linear of each expert, or one for those of all.
  enum class Storage { kEach, kStacked } storage = Storage::kEach;

  bool In(int64_t layer) const { return count > 0 && layers[static_cast<std::size_t>(layer)]; }
};

struct DecoderConfig {
  std::string architecture;  // "LlamaForCausalLM"
  int64_t vocabulary = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  AttentionHeads heads;
  int64_t max_positions = 0;
  float norm_epsilon = 1e-6f;
  NormStyle norms;
  RopeConfig rope;
  std::optional<RopeConfig> window_rope = {};  // of layers with a window, where it is another one
  double rotary_share = 1.0;                   // of each head's channels
  RotaryPairs rotary_pairs = RotaryPairs::kHalves;
  Activation activation = Activation::kSilu;
  // Of each layer; empty: all tokens are seen, and all layers rotate.
  std::vector<int64_t> windows;  // 0: all tokens
  std::vector<bool> rotated;
  std::optional<QueryTemperature> temperature = {};
  std::optional<LatentHeads> latent = {};
  std::optional<DeltaNet> delta_net = {};  // of the layers that have one
  std::vector<bool> recurrent = {};        // which these are, where there are any
  float score_scale = 0.0f;                // of q k^T; 0: 1 / sqrt(head size)
  float residual_scale = 1.0f;
  float embedding_scale = 1.0f;
  float logit_scale = 1.0f;
  float score_softcap = 0.0f;  // 0: none
  float logit_softcap = 0.0f;  // 0: none
  Bias query_key_value_bias = Bias::kNone;
  Bias attention_output_bias = Bias::kNone;
  Bias mlp_bias = Bias::kNone;
  enum class LmHead { kOwn, kTied } lm_head = LmHead::kOwn;
  // What the weights are: as the config says, or, where it says nothing that PyTorch would take for
  // a type, as the checkpoint's embedding is stored (bf16 where there is no checkpoint).
  Dtype dtype = Dtype::kBF16;
  bool dtype_stated = false;  // by the config
  TensorNames names;
  ExpertsConfig experts = {};
  int64_t chunk = 0;                // of attention in layers that rotate, where a family has them
  bool head_norms = false;          // of Q and K, where a family's config decides about them
  int64_t prediction_layers = 0;    // after the last, of next-token prediction: copied as they are
  std::vector<OtherTensor> others;  // of the checkpoint; none for a model that is a decoder alone

  int64_t window(int64_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
  }
  bool rotates(int64_t layer) const {
    return rotated.empty() || rotated[static_cast<std::size_t>(layer)];
  }
  // The layer has a DeltaNet in the place of attention.
  bool recurs(int64_t layer) const {
    return delta_net && recurrent[static_cast<std::size_t>(layer)];
  }
  int64_t query_width() const { return heads.query_width(); }
  int64_t key_value_width() const { return heads.key_value_width(); }
  int64_t query_key_value_width() const { return query_width() + 2 * key_value_width(); }
};

}  // namespace narrow
