// What a tensor is for. What treats tensors differently in the modules below model asks for the
// role, never for a part of a name.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

enum class WeightRole {
  kEmbedding,
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kMlpNorm,
  kGate,
  kUp,
  kDown,
  kFinalNorm,
  kLmHead,
  kQueryKeyValue,       // stored as one matrix: rows of q, then of k, then of v
  kGateUp,              // stored as one matrix: rows of gate, then of up
  kQueryLatent,         // of latent attention: hidden to the latent of q
  kKeyValueLatent,      // hidden to the latent of k and v, and the part of k that turns
  kQueryFromLatent,     // the latent of q to q
  kKeyValueFromLatent,  // the latent of k and v to k and v
  kDeltaInput,  // of a DeltaNet: hidden to q, k, v, and the output gate where it is with them
  kDeltaGate,   // hidden to the output gate
  kDeltaRates,  // hidden to what says how fast the state is written and forgotten
  kIndexer,     // of sparse attention: what keys are chosen by
};
inline constexpr auto kLastWeightRole = WeightRole::kIndexer;

// Linears that read the same input and run as one product; serving engines fuse them too. Which of
// them a layer has, and in which order they run, its spec says (GroupsOf).
enum class LinearGroup {
  kQueryKeyValue,  // all that attention computes of the hidden states
  kAttentionOutput,
  kGateUp,
  kDown,
  kQueryFromLatent,
  kKeyValueFromLatent,
  kDeltaRates,
  kIndexQueries,  // of an indexer: of the latent of q
  kIndexKeys,     // of the hidden states
};
inline constexpr std::size_t kLinearGroupCount = 9;
// Those of a layer with plain attention and a dense MLP.
inline constexpr std::array<LinearGroup, 4> kLinearGroups = {
    LinearGroup::kQueryKeyValue, LinearGroup::kAttentionOutput, LinearGroup::kGateUp,
    LinearGroup::kDown};

// Presence of a bias vector.
enum class Bias { kNone, kPresent };

// Where the weights of a linear lie that is one expert's part of a tensor of all experts:
// [experts, rows, columns], or [experts, columns, rows].
struct TensorPart {
  std::string tensor;     // full name
  std::string bias = {};  // [experts, rows] of all of its linears; "" where there is none
  int64_t experts = 0;
  int64_t expert = 0;
  int64_t rows = 0;       // of an expert's matrix: of this linear and others
  int64_t first_row = 0;  // of this linear
  int64_t row_step = 1;   // 2: rows of gate and up take turns
  bool transposed = false;
};

// A linear layer of a decoder layer.
struct LinearSpec {
  std::string module;  // full name: "model.layers.3.self_attn.q_proj"
  WeightRole role = WeightRole::kQuery;
  LinearGroup group = LinearGroup::kQueryKeyValue;
  int64_t rows = 0;     // outputs
  int64_t columns = 0;  // inputs
  Bias bias = Bias::kNone;
  // kAsStored: whatever is asked for, since serving engines keep it, too.
  enum class Treatment { kQuantized, kAsStored } treatment = Treatment::kQuantized;
  std::optional<TensorPart> part = {};  // nothing: weight() and bias_name() are its tensors

  std::string weight() const { return module + ".weight"; }
  std::string bias_name() const { return module + ".bias"; }
};

}  // namespace narrow
