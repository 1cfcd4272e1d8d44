// What a model consists of, as plain data: blocks with their norms and linears. The forward step,
// the checks, the plan, the output and whatever else is derived from a model loop over these.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/operations.h"
#include "kernels/attention_heads.h"
#include "model/roles.h"
#include "model/rope_config.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

struct NamedVector {
  std::string name;
  int64_t size = 0;
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
  std::string sinks = {};       // tensor [query heads]: scores without a value; "": none
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
  std::vector<LinearSpec> linears;

  std::optional<NormSpec>& Norm(NormPlace place) { return norms[static_cast<std::size_t>(place)]; }
  const std::optional<NormSpec>& Norm(NormPlace place) const {
    return norms[static_cast<std::size_t>(place)];
  }
};

// The tensors of the norms in some places: weights, each with its bias.
std::vector<NamedVector> NormTensors(const LayerSpec& layer, std::span<const NormPlace> places);
std::vector<NamedVector> NormTensors(const LayerSpec& layer);  // all

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
std::vector<NamedVector> FinalNormTensors(const ModelSpec& model);

// What the basis of a layer's heads may do and leave the layer the same function: turn and scale
// pairs of channels of K (and Q), mix the channels of V (and o).
struct BasisFreedom {
  bool keys = false;
  bool values = false;
};
BasisFreedom FreedomOf(const LayerSpec& layer);

}  // namespace narrow
