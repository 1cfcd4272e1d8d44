// What a model consists of, as plain data: blocks with their norms and linears. The forward step,
// the checks, the plan, the output and whatever else is derived from a model loop over these.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "device/delta_net.h"
#include "device/key_selection.h"
#include "device/operations.h"
#include "kernels/attention_heads.h"
#include "model/roles.h"
#include "model/rope_config.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

struct NamedShape {
  std::string name;
  Shape shape;
};

struct NormSpec {
  enum class Kind { kRms, kLayer };

  std::string weight;  // its tensor; "": ones
  int64_t size = 0;    // of that
  float epsilon = 1e-6f;
  Kind kind = Kind::kRms;
  float offset = 0.0f;    // added to the weight: Gemma stores it less 1
  std::string bias = {};  // its tensor; "" where there is none
  int64_t segment = 0;    // channels normed together; 0: all
  int64_t rows = 0;       // its tensors are matrices of so many rows; 0: vectors
};

// Of its tensors.
Shape ShapeOf(const NormSpec& norm);

// Where a layer norms, in the order in which a checkpoint is written.
// kQueryLatent, kKeyValueLatent: of latent attention's latents; kAttended: of the heads that a
// DeltaNet puts out; kIndexKey: of the keys of an indexer.
enum class NormPlace {
  kBeforeAttention,
  kQuery,
  kKey,
  kAfterAttention,
  kBeforeMlp,
  kAfterMlp,
  kQueryLatent,
  kKeyValueLatent,
  kAttended,
  kIndexKey,
};
inline constexpr std::size_t kNormPlaceCount = 10;
inline constexpr std::array kAttentionNorms = {
    NormPlace::kBeforeAttention, NormPlace::kQueryLatent,   NormPlace::kKeyValueLatent,
    NormPlace::kIndexKey,        NormPlace::kQuery,         NormPlace::kKey,
    NormPlace::kAttended,        NormPlace::kAfterAttention};
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

// Heads of Q, K and V as products of the hidden states.
struct DirectHeads {
  // kByHead: attention's output times sigmoid of a gate, which q_proj computes along with each
  // head: rows of q, then as many of the gate. Source: transformers 5, models/qwen3_next.
  enum class OutputGate { kNone, kByHead } gate = OutputGate::kNone;
};

// Heads of Q, K and V from two latents: the first `plain` channels of each head of q and k, and v,
// are products of normed latents; the last `turned` channels of k are computed of the hidden
// states, rotated, and shared by the heads. The cache holds the latent and those. Source:
// DeepSeek-AI, DeepSeek-V2, 2024, section 2.1; transformers 5, models/deepseek_v3.
struct LatentHeads {
  // Which keys a query sees: the `keys.count` of highest score. The first channels of its heads
  // turn, as many as of attention's. Source: DeepSeek-AI, DeepSeek-V3.2, 2025.
  struct Indexer {
    KeyScores keys;
    RotaryPairs pairs = RotaryPairs::kHalves;
  };
  int64_t query_latent = 0;
  int64_t key_value_latent = 0;
  int64_t plain = 0;
  int64_t turned = 0;
  std::optional<Indexer> indexer = {};  // nothing: a query sees all keys up to its own
};

struct AttentionBlock {
  std::variant<DirectHeads, LatentHeads, DeltaNet> form;
  // Of softmax attention: a DeltaNet has none of what follows but residual_scale.
  AttentionHeads heads;
  AttentionScores scores = 1.0f;
  std::optional<RotarySpec> rotary;  // nothing: positions do not count
  enum class HeadNorms { kBeforeRotation, kAfterRotation } head_norms = HeadNorms::kBeforeRotation;
  std::optional<QueryTemperature> temperature;
  float residual_scale = 1.0f;  // of what it adds
  std::string sinks = {};       // tensor [query heads]: scores without a value; "": none

  template <typename Form>
  const Form* As() const {
    return std::get_if<Form>(&form);
  }
};

// What is computed with beside matrices, norms and biases; small.
enum class ParameterRole { kConvolution, kDecayLog, kDecayBias };
struct ParameterSpec {
  ParameterRole role = ParameterRole::kConvolution;
  std::string name;  // its tensor
  Shape shape;
};

// gate sigmoid(alpha gate) (1 + up), of a gate of at most `limit` and an up within +-limit.
// Source: transformers 5, models/gpt_oss/modeling_gpt_oss.py.
struct ClampedGate {
  float alpha = 1.702f;
  float limit = 7.0f;
};

struct MlpBlock {
  Activation activation = Activation::kSilu;
  enum class Gate { kPresent, kNone } gate = Gate::kPresent;
  int64_t width = 0;  // of the activation
  float residual_scale = 1.0f;
  std::optional<ClampedGate> clamped = {};  // in place of the activation
  // The module of a linear with one output, whose sigmoid a token's output is multiplied by; "":
  // none.
  std::string token_gate = {};
};

// Which experts a token goes through, and what their outputs are multiplied by.
struct Routing {
  enum class Scores { kSoftmax, kSigmoid } scores = Scores::kSoftmax;
  // Scores are of the logits of all experts, or of those that were chosen by their logits.
  enum class Among { kAll, kChosen } among = Among::kAll;
  bool renormalized = false;  // weights are scores over their sum plus `sum_offset`
  float sum_offset = 0.0f;
  float scale = 1.0f;  // of the weights
  // Experts in runs of equal length; a token chooses among those of the `chosen_groups` whose two
  // best add up to most.
  int64_t groups = 1;
  int64_t chosen_groups = 1;
  enum class Weighed { kOutput, kInput } weighed = Weighed::kOutput;
};

// A mixture of experts: MLPs of one shape, of which every token goes through a few. Routers stay in
// float32 and are never quantized.
struct ExpertsBlock {
  std::string module;  // "model.layers.3.mlp.experts"
  int64_t count = 0;
  int64_t per_token = 0;
  std::string router;  // the module of its linear [count, hidden]
  Bias router_bias = Bias::kNone;
  std::string correction = {};  // tensor [count], added to scores for the choice alone; "": none
  Routing routing;
  MlpBlock mlp;                     // each of them
  std::vector<LinearSpec> linears;  // of the first, then of the second, ...

  std::span<const LinearSpec> LinearsOf(int64_t expert) const {
    const auto each = linears.size() / static_cast<std::size_t>(count);
    return std::span(linears).subspan(static_cast<std::size_t>(expert) * each, each);
  }
};

// A tensor that is computed with as float32 numbers and never quantized: a router, a gate, sinks.
struct PlainTensor {
  std::string name;
  Shape shape;
};

// One decoder layer: attention and an MLP, each with a norm before, after, or both. The MLP is
// dense (`mlp` alone), a mixture of experts (`experts`), or that with a shared expert (both: they
// read the same input). Layers of a model may differ. Linears are those of attention and `mlp`, in
// the order of their groups.
struct LayerSpec {
  std::string attention_module;  // "model.layers.3.self_attn"
  int64_t hidden = 0;
  AttentionBlock attention;
  std::optional<MlpBlock> mlp = MlpBlock{};
  std::optional<ExpertsBlock> experts;
  // kAttention: the MLP reads what attention reads, its norm included.
  enum class MlpInput { kResidual, kAttention } mlp_input = MlpInput::kResidual;
  std::array<std::optional<NormSpec>, kNormPlaceCount> norms;
  std::vector<ParameterSpec> parameters;
  std::vector<LinearSpec> linears;

  // K and V of its tokens are cached. One expert by itself (ExpertLayer) has no attention.
  bool caches() const { return !attention_module.empty() && attention.As<DeltaNet>() == nullptr; }
  // The tensor of a parameter. REQUIRES: there is one.
  const std::string& Parameter(ParameterRole role) const;
  std::optional<NormSpec>& Norm(NormPlace place) { return norms[static_cast<std::size_t>(place)]; }
  const std::optional<NormSpec>& Norm(NormPlace place) const {
    return norms[static_cast<std::size_t>(place)];
  }
};

// The tensors of the norms in some places: weights, each with its bias.
std::vector<NamedShape> NormTensors(const LayerSpec& layer, std::span<const NormPlace> places);

// All tensors of a layer but those of its linears.
std::vector<NamedShape> SmallTensors(const LayerSpec& layer);

// What its blocks name of plain tensors.
std::vector<PlainTensor> PlainTensors(const LayerSpec& layer);

// The shape of the tensor that holds a part of so many columns.
Shape PartShape(const TensorPart& part, int64_t columns);

// The layer with the linears of its experts among the others, for what counts or names them all.
LayerSpec WithExperts(LayerSpec layer);

// One expert as a layer of its own: its linears, no attention and no norms.
LayerSpec ExpertLayer(const LayerSpec& layer, int64_t expert);

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
std::vector<NamedShape> FinalNormTensors(const ModelSpec& model);

// Channels of a token that calibration sees of Q, K and V: of latent attention the latent and the
// part of K that turns, as K; 0 where there is nothing.
struct CacheWidths {
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t values = 0;
};
CacheWidths CacheWidthsOf(const LayerSpec& layer);

// What the basis of a layer's heads may do and leave the layer the same function: turn and scale
// pairs of channels of K (and Q), mix the channels of V (and o).
struct BasisFreedom {
  bool keys = false;
  bool values = false;
};
BasisFreedom FreedomOf(const LayerSpec& layer);

}  // namespace narrow
