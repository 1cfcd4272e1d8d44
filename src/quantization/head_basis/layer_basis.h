// The basis of the heads of K and V, chosen so that FP8 rounds them well. K and Q are turned and
// scaled by the rows of k_proj and q_proj, V is mixed by the rows of v_proj and mixed back by the
// columns of o_proj: the unquantized network stays the same function, and the checkpoint the same
// format.
#pragma once

#include <optional>
#include <vector>

#include "device/compensation/hessian.h"
#include "model/loaded_layer.h"
#include "quantization/head_basis/key_basis.h"
#include "quantization/head_basis/value_basis.h"
#include "quantization/ranges.h"

namespace narrow {

enum class HeadBasis {
  kOriginal,
  kFitted,  // to the rounding errors of E4M3
};

// What of the basis can change: where the layer stays the same function (FreedomOf) and rows of
// whole heads are rewritten together.
BasisFreedom FreedomToFit(const LayerSpec& layer);

// What calibration sums up for the choice. Absent where nothing is to be chosen.
struct BasisStatistics {
  std::optional<KeyBasisStatistics> keys;
  std::optional<HessianAccumulator> values;  // second moments of V; blocks hold whole heads

  static int64_t Bytes(const AttentionHeads& heads, ComputeType compute);
};

// The basis of a layer's heads, of which each may be the original one.
struct LayerBasis {
  KeyBasis keys;
  std::vector<HeadMatrices> values;  // of every key-value head; empty for the original

  // Whether the weights of a group are others in this basis.
  bool Changes(LinearGroup group) const;
};

// `attended`: second moments of the input of o, to which nothing is added afterwards; may be null
// where statistics.values is absent. Reads the weights of o.
LayerBasis ChooseBasis(const LoadedLayer& layer, BasisStatistics& statistics,
                       HessianAccumulator* attended);

// Memory of that for the weights of o, for budgets.
int64_t BasisChoiceBytes(const AttentionHeads& heads);

// Rows of a group's weights, in place; `rows` start at first_row of the group and are whole heads.
void ChangeWeights(const LayerBasis& basis, const AttentionHeads& heads,
                   const std::vector<LoadedLinear>& linears, int64_t first_row,
                   MatrixView<float> rows);

// What attention's output is to be mixed by while V is in the new basis and o is not.
std::vector<AlignedBuffer<float>> MixingBack(const LayerBasis& basis);

// Second moments of the input of o in the new basis.
void ChangeMoments(const LayerBasis& basis, const AttentionHeads& heads,
                   HessianAccumulator& attended);

// Ranges in the new basis: bounds that nothing seen in calibration exceeds. A mixed channel's is
// the sum of its parts' ranges, some five times what it reaches: E4M3 spans 2^17.8, so that the two
// or three powers of two cost no precision.
LayerRanges ChangeRanges(const LayerBasis& basis, const LayerRanges& ranges,
                         const AttentionHeads& heads);

}  // namespace narrow
