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
  kQueryKeyValue,  // stored as one matrix: rows of q, then of k, then of v
  kGateUp,         // stored as one matrix: rows of gate, then of up
};

// Linears that read the same input and run as one product; serving engines fuse them too.
enum class LinearGroup { kQueryKeyValue, kAttentionOutput, kGateUp, kDown };
inline constexpr std::array<LinearGroup, 4> kLinearGroups = {
    LinearGroup::kQueryKeyValue, LinearGroup::kAttentionOutput, LinearGroup::kGateUp,
    LinearGroup::kDown};
inline constexpr std::size_t kLinearGroupCount = kLinearGroups.size();

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
  std::optional<TensorPart> part = {};  // nothing: weight() and bias_name() are its tensors

  std::string weight() const { return module + ".weight"; }
  std::string bias_name() const { return module + ".bias"; }
};

}  // namespace narrow
