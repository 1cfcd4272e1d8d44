#include "quantization/head_basis/layer_basis.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "device/operations.h"
#include "kernels/feedback.h"

namespace narrow {
namespace {

// The noise of V in the cache is averaged over the keys a query attends to, that of attention's
// output is not. Nothing changes much between 0 and 0.5 (docs/accuracy.md).
constexpr double kCacheShare = 0.1;

constexpr int64_t kStripColumns = 256;  // mixed by one thread at a time
constexpr int64_t kStripRows = 128;

MatrixView<const float> View(const AlignedBuffer<float>& matrix, int64_t size) {
  return {matrix.data(), size, size};
}

// A copy of x and zeros in x, for a product that is added to it.
AlignedBuffer<float> TakeOut(MatrixView<float> x) {
  AlignedBuffer<float> copy(x.rows * x.columns);
  for (int64_t row = 0; row < x.rows; ++row) {
    std::ranges::copy(x.RowSpan(row), copy.data() + row * x.columns);
    std::ranges::fill(x.RowSpan(row), 0.0f);
  }
  return copy;
}

// The rows of one head, and whether it is one of q, which undoes the factors of k.
void TurnHead(const KeyBasis& basis, int64_t key_head, bool query, MatrixView<float> rows) {
  const int64_t half = rows.rows / 2;
  ParallelFor(half, [&](int64_t i) {
    const auto pair = static_cast<std::size_t>(key_head * half + i);
    const float factor = query ? 1.0f / basis.factors[pair] : basis.factors[pair];
    float *first = rows.Row(i), *second = rows.Row(i + half);
    for (int64_t c = 0; c < rows.columns; ++c) {
      TurnPair(basis.cosines[pair], basis.sines[pair], factor, first[c], second[c]);
    }
  });
}

// rows [head size, columns] of v become matrix * rows.
void MixRows(const HeadMatrices& basis, MatrixView<float> rows) {
  ParallelFor(DivideRoundUp(rows.columns, kStripColumns), [&](int64_t strip) {
    const int64_t first = strip * kStripColumns;
    const MatrixView<float> part =
        rows.ColumnBlock(first, std::min(kStripColumns, rows.columns - first));
    const AlignedBuffer<float> old = TakeOut(part);
    ProductAdd(View(basis.matrix, rows.rows), {old.data(), part.rows, part.columns}, part);
  });
}

// rows [n, query width] of o become rows * inverse, head by head.
void MixColumns(const std::vector<HeadMatrices>& bases, const AttentionHeads& heads,
                MatrixView<float> rows) {
  const int64_t size = heads.head_size;
  ParallelFor(DivideRoundUp(rows.rows, kStripRows) * heads.query_heads, [&](int64_t item) {
    const int64_t first = item / heads.query_heads * kStripRows, head = item % heads.query_heads;
    const MatrixView<float> part = rows.RowBlock(first, std::min(kStripRows, rows.rows - first))
                                       .ColumnBlock(head * size, size);
    const AlignedBuffer<float> old = TakeOut(part);
    const HeadMatrices& basis = bases[static_cast<std::size_t>(head / heads.sharing())];
    ProductAdd({old.data(), part.rows, part.columns}, View(basis.inverse, size), part);
  });
}

// Second moments of the weights of o: W^T W of each head's columns.
HessianAccumulator OutputWeightMoments(const LoadedLayer& layer, const AttentionHeads& heads) {
  HessianAccumulator moments(heads.query_width(), heads.head_size);
  layer.Read(LinearGroup::kAttentionOutput,
             [&](int64_t, MatrixView<float> rows) { moments.Add(rows); });
  return moments;
}

std::vector<HeadMatrices> ChooseValueBasis(const AttentionHeads& heads, HessianAccumulator& values,
                                           HessianAccumulator& attended,
                                           HessianAccumulator& weights) {
  const int64_t size = heads.head_size;
  std::vector<HeadMatrices> bases(static_cast<std::size_t>(heads.key_value_heads));
  for (int64_t head = 0; head < heads.key_value_heads; ++head) {
    std::vector<double> moments(static_cast<std::size_t>(size * size)), read(moments.size());
    const auto view = [&](std::vector<double>& sums) {
      return MatrixView<double>(sums.data(), size, size);
    };
    values.AddSquareTo(head * size, view(moments));
    for (double& moment : moments) moment *= kCacheShare * static_cast<double>(heads.sharing());
    for (int64_t query = head * heads.sharing(); query < (head + 1) * heads.sharing(); ++query) {
      attended.AddSquareTo(query * size, view(moments));
      weights.AddSquareTo(query * size, view(read));
    }
    bases[static_cast<std::size_t>(head)] = BestValueBasis(view(moments), view(read));
  }
  return bases;
}

// maxima [head size] of one head in its new basis.
void MixMaxima(const HeadMatrices& basis, std::span<float> maxima) {
  std::vector<float> mixed;
  for (std::size_t j = 0; j < maxima.size(); ++j) {
    float sum = 0.0f;
    for (std::size_t i = 0; i < maxima.size(); ++i) {
      sum += std::abs(basis.matrix[static_cast<int64_t>(j * maxima.size() + i)]) * maxima[i];
    }
    mixed.push_back(sum);
  }
  std::ranges::copy(mixed, maxima.begin());
}

// maxima of keys, or of queries, of which `sharing` heads share one of keys and undo its factors.
void TurnMaxima(const KeyBasis& basis, int64_t head_size, std::optional<int64_t> sharing,
                std::span<float> maxima) {
  const int64_t half = head_size / 2;
  for (int64_t pair = 0; pair < std::ssize(maxima) / 2; ++pair) {
    const int64_t key_head = pair / half / sharing.value_or(1);
    const auto p = static_cast<std::size_t>(key_head * half + pair % half);
    const float factor = sharing ? 1.0f / basis.factors[p] : basis.factors[p];
    const auto i = static_cast<std::size_t>(pair / half * head_size + pair % half);
    float &first = maxima[i], &second = maxima[i + static_cast<std::size_t>(half)];
    const float cosine = std::abs(basis.cosines[p]), sine = std::abs(basis.sines[p]);
    const float a = first, b = second;
    first = factor * (cosine * a + sine * b);
    second = factor * (sine * a + cosine * b);
  }
}

}  // namespace

int64_t BasisStatistics::Bytes(const AttentionHeads& heads, ComputeType compute) {
  return KeyBasisStatistics::Bytes(heads) +
         HessianAccumulator::Bytes(heads.key_value_width(), heads.head_size, compute);
}

int64_t BasisChoiceBytes(const AttentionHeads& heads) {
  return HessianAccumulator::Bytes(heads.query_width(), heads.head_size, ComputeType::kFloat32);
}

BasisFreedom FreedomToFit(const LayerSpec& layer) {
  const int64_t size = layer.attention.heads.head_size;  // 0 where there is no softmax attention
  const bool whole = size > 0 && size % 2 == 0 && kRoundingChunkRows % size == 0 &&
                     kHessianColumnMultiple % size == 0;
  return whole ? FreedomOf(layer) : BasisFreedom{};
}

bool LayerBasis::Changes(LinearGroup group) const {
  if (group == LinearGroup::kAttentionOutput) return !values.empty();
  return group == LinearGroup::kQueryKeyValue && (!keys.empty() || !values.empty());
}

LayerBasis ChooseBasis(const LoadedLayer& layer, BasisStatistics& statistics,
                       HessianAccumulator* attended) {
  LayerBasis basis;
  if (statistics.keys) basis.keys = statistics.keys->Choose();
  if (statistics.values) {
    NARROW_CHECK(attended != nullptr);
    const AttentionHeads& heads = layer.spec().attention.heads;
    HessianAccumulator weights = OutputWeightMoments(layer, heads);
    basis.values = ChooseValueBasis(heads, *statistics.values, *attended, weights);
  }
  return basis;
}

void ChangeWeights(const LayerBasis& basis, const AttentionHeads& heads,
                   const std::vector<LoadedLinear>& linears, int64_t first_row,
                   MatrixView<float> rows) {
  const LinearGroup group = linears.front().spec.group;
  if (!basis.Changes(group)) return;
  if (group == LinearGroup::kAttentionOutput) return MixColumns(basis.values, heads, rows);
  const int64_t size = heads.head_size;
  NARROW_CHECK(first_row % size == 0 && rows.rows % size == 0);
  ForEachLinearAmong(
      linears, first_row, rows.rows, [&](std::size_t i, int64_t from, int64_t count) {
        const WeightRole role = linears[i].spec.role;
        for (int64_t row = from; row < from + count; row += size) {
          const int64_t head = (first_row + row - linears[i].first_row) / size;
          const MatrixView<float> of_head = rows.RowBlock(row, size);
          if (role == WeightRole::kValue) {
            if (!basis.values.empty())
              MixRows(basis.values[static_cast<std::size_t>(head)], of_head);
          } else if (!basis.keys.empty()) {
            const bool query = role == WeightRole::kQuery;
            TurnHead(basis.keys, query ? head / heads.sharing() : head, query, of_head);
          }
        }
      });
}

std::vector<AlignedBuffer<float>> MixingBack(const LayerBasis& basis) {
  std::vector<AlignedBuffer<float>> matrices;
  for (const HeadMatrices& head : basis.values) {
    matrices.emplace_back(head.inverse.size());
    std::ranges::copy(head.inverse.span(), matrices.back().data());
  }
  return matrices;
}

void ChangeMoments(const LayerBasis& basis, const AttentionHeads& heads,
                   HessianAccumulator& attended) {
  attended.ChangeBasis(heads.head_size, [&](int64_t head) {
    return View(basis.values[static_cast<std::size_t>(head / heads.sharing())].matrix,
                heads.head_size);
  });
}

LayerRanges ChangeRanges(const LayerBasis& basis, const LayerRanges& ranges,
                         const AttentionHeads& heads) {
  LayerRanges changed = ranges;
  if (!basis.keys.empty()) {
    TurnMaxima(basis.keys, heads.head_size, std::nullopt, changed.keys);
    TurnMaxima(basis.keys, heads.head_size, heads.sharing(), changed.queries);
  }
  if (basis.values.empty()) return changed;
  const auto size = static_cast<std::size_t>(heads.head_size);
  const auto mix = [&](std::vector<float>& maxima, int64_t sharing) {
    for (std::size_t head = 0; head < maxima.size() / size; ++head) {
      MixMaxima(basis.values[head / static_cast<std::size_t>(sharing)],
                std::span(maxima).subspan(head * size, size));
    }
  };
  mix(changed.values, 1);
  mix(changed.inputs[static_cast<std::size_t>(LinearGroup::kAttentionOutput)], heads.sharing());
  return changed;
}

}  // namespace narrow
