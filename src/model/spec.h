// What a model consists of, as plain data: blocks with their norms and linears. The forward step,
// the checks, the plan, the output and whatever else is derived from a model loop over these.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/operations.h"
#include "kernels/attention_heads.h"
#include "model/roles.h"
#include "model/rope_config.h"

namespace narrow {

struct NamedVector {
  std::string name;
  int64_t size = 0;
};

struct NormSpec {
  enum class Kind { kRms, kLayer };

  std::string weight;  // its tensor
  int64_t size = 0;    // of that
  float epsilon = 1e-6f;
  Kind kind = Kind::kRms;
  float offset = 0.0f;    // added to the weight: Gemma stores it less 1
  std::string bias = {};  // its tensor; "" where there is none
  int64_t segment = 0;    // channels normed together; 0: all
};

// Where a layer norms, in the order in which a checkpoint is written.
enum class NormPlace { kBeforeAttention, kQuery, kKey, kAfterAttention, kBeforeMlp, kAfterMlp };
inline constexpr std::size_t kNormPlaceCount = 6;
inline constexpr std::array kAttentionNorms = {NormPlace::kBeforeAttention, NormPlace::kQuery,
                                               NormPlace::kKey, NormPlace::kAfterAttention};
inline constexpr std::array kMlpNorms = {NormPlace::kBeforeMlp, NormPlace::kAfterMlp};

struct RotarySpec {
  RopeConfig frequencies;
  int64_t width = 0;  // channels of a head that turn, from the first
  RotaryPairs pairs = RotaryPairs::kHalves;

  bool operator==(const RotarySpec&) const = default;
};

// Query of position p times 1 + beta log(1 + floor(p / positions)).
// Source: transformers 5, models/ministral3/modeling_ministral3.py.
struct QueryTemperature {
  float beta = 0.0f;
  double positions = 1.0;
};

struct AttentionBlock {
  AttentionHeads heads;
  AttentionScores scores = 1.0f;
  std::optional<RotarySpec> rotary;  // nothing: positions do not count
  enum class HeadNorms { kBeforeRotation, kAfterRotation } head_norms = HeadNorms::kBeforeRotation;
  std::optional<QueryTemperature> temperature;
  float residual_scale = 1.0f;  // of what it adds
};

struct MlpBlock {
  Activation activation = Activation::kSilu;
  enum class Gate { kPresent, kNone } gate = Gate::kPresent;
  int64_t width = 0;  // of the activation
  float residual_scale = 1.0f;
};

// One decoder layer: attention and an MLP, each with a norm before, after, or both. Layers of a
// model may differ. Linears are in the order of their groups.
struct LayerSpec {
  std::string attention_module;  // "model.layers.3.self_attn"
  int64_t hidden = 0;
  AttentionBlock attention;
  MlpBlock mlp;
  // kAttention: the MLP reads what attention reads, its norm included.
  enum class MlpInput { kResidual, kAttention } mlp_input = MlpInput::kResidual;
  std::array<std::optional<NormSpec>, kNormPlaceCount> norms;
  std::vector<LinearSpec> linears;

  std::optional<NormSpec>& Norm(NormPlace place) { return norms[static_cast<std::size_t>(place)]; }
  const std::optional<NormSpec>& Norm(NormPlace place) const {
    return norms[static_cast<std::size_t>(place)];
  }
};

// The tensors of the norms in some places: weights, each with its bias.
std::vector<NamedVector> NormTensors(const LayerSpec& layer, std::span<const NormPlace> places);
std::vector<NamedVector> NormTensors(const LayerSpec& layer);  // all

// Tensors outside the layers. `lm_head` names the embedding when the two are tied.
struct ModelSpec {
  std::string embedding;         // [vocabulary, hidden]
  float embedding_scale = 1.0f;  // of its rows as hidden states
  NormSpec final_norm;
  std::string lm_head;         // [vocabulary, hidden]
  std::string lm_head_module;  // how quantization configs call it
  // A logit is logit_softcap tanh(logit_scale x / logit_softcap), or logit_scale x without a cap.
  float logit_scale = 1.0f;
  float logit_softcap = 0.0f;
};

// The tensors of the final norm.
std::vector<NamedVector> FinalNormTensors(const ModelSpec& model);

// What the basis of a layer's heads may do and leave the layer the same function: turn and scale
// pairs of channels of K (and Q), mix the channels of V (and o).
struct BasisFreedom {
  bool keys = false;
  bool values = false;
};
BasisFreedom FreedomOf(const LayerSpec& layer);

}  // namespace narrow
