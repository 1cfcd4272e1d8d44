#include "evaluation/token_comparison.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "kernels/divergence.h"

namespace narrow {
namespace {

// What one network's logits have come to so far, a row per token.
struct Network {
  explicit Network(int64_t rows) : logits(static_cast<std::size_t>(rows)), target_logits(rows) {}
  std::vector<TokenLogits> logits;
  AlignedBuffer<float> target_logits;
  std::vector<CrossTerm> cross_terms;  // of variants
};

struct Slice {
  int64_t first_token = 0;
  int64_t tokens = 0;
};

// The thread's memory for slices, one array per use; it grows with the largest tile.
enum BufferUse { kOriginal, kExponentials, kVariant, kBufferCount };
MatrixView<float> SliceBuffer(BufferUse use, int64_t rows, int64_t columns) {
  thread_local AlignedBuffer<float> buffers[kBufferCount];
  if (buffers[use].size() < rows * columns) buffers[use] = AlignedBuffer<float>(rows * columns);
  return {buffers[use].data(), rows, columns};
}

template <typename T>
void CheckShapes(const PackedMatrix<T>& lm_head, MatrixView<const T> original,
                 std::span<const MatrixView<const T>> variants, std::span<const int32_t> targets,
                 std::span<TokenOutcome> original_outcomes,
                 std::span<const std::span<TokenOutcome>> variant_outcomes) {
  const auto rows = static_cast<std::size_t>(original.rows);
  NARROW_CHECK(targets.size() == rows && original_outcomes.size() == rows);
  NARROW_CHECK(original.columns == lm_head.columns());
  NARROW_CHECK(variants.size() == variant_outcomes.size());
  for (const int32_t target : targets) NARROW_CHECK(target >= 0 && target < lm_head.rows());
  for (std::size_t v = 0; v < variants.size(); ++v) {
    NARROW_CHECK(variants[v].rows == original.rows && variants[v].columns == original.columns);
    NARROW_CHECK(variant_outcomes[v].size() == rows);
  }
}

void KeepTargetLogit(MatrixView<const float> logits, int64_t row, const Slice& slice,
                     int32_t target, Network& network) {
  const int64_t offset = target - slice.first_token;
  if (offset >= 0 && offset < slice.tokens) {
    network.target_logits[row] = logits.Row(row)[offset];
  }
}

int8_t Overlap(const TopTokens& a, const TopTokens& b) {
  const auto shared = std::count_if(a.tokens.begin(), a.tokens.end(), [&](int32_t token) {
    return std::find(b.tokens.begin(), b.tokens.end(), token) != b.tokens.end();
  });
  return static_cast<int8_t>(shared);
}

TokenOutcome Outcome(const TokenLogits& original, const TokenLogits& variant, float target_logit,
                     double kl) {
  TokenOutcome outcome;
  outcome.nll = Value(variant.normalizer) - static_cast<double>(target_logit);
  outcome.kl = kl;
  outcome.top1 = variant.top.tokens.front();
  const int32_t right = original.top.tokens.front();
  outcome.top1_agrees = outcome.top1 == right;
  outcome.top1_in_top5 = std::find(variant.top.tokens.begin(), variant.top.tokens.end(), right) !=
                         variant.top.tokens.end();
  outcome.top5_overlap = Overlap(original.top, variant.top);
  return outcome;
}

}  // namespace

template <typename T>
void CompareTokens(const PackedMatrix<T>& lm_head, MatrixView<const T> original,
                   std::span<const MatrixView<const T>> variants, std::span<const int32_t> targets,
                   std::span<TokenOutcome> original_outcomes,
                   std::span<const std::span<TokenOutcome>> variant_outcomes) {
  CheckShapes(lm_head, original, variants, targets, original_outcomes, variant_outcomes);
  const int64_t rows = original.rows;
  Network reference(rows);
  std::vector<Network> networks;
  for (std::size_t v = 0; v < variants.size(); ++v) {
    networks.emplace_back(rows).cross_terms.resize(static_cast<std::size_t>(rows));
  }
  for (int64_t panel = 0; panel < lm_head.panel_count(); ++panel) {
    const int64_t first = panel * lm_head.panel_rows();
    const Slice slice = {first, std::min(lm_head.panel_rows(), lm_head.rows() - first)};
    const MatrixView<float> logits = SliceBuffer(kOriginal, rows, slice.tokens);
    // Of every slice once, for all variants; without variants nobody needs them.
    const MatrixView<float> exponentials =
        variants.empty() ? MatrixView<float>() : SliceBuffer(kExponentials, rows, slice.tokens);
    lm_head.MultiplyPanel(panel, original, logits);
    for (int64_t row = 0; row < rows; ++row) {
      const auto r = static_cast<std::size_t>(row);
      AccumulateLogits(logits.RowSpan(row), first, reference.logits[r],
                       variants.empty() ? std::span<float>() : exponentials.RowSpan(row));
      KeepTargetLogit(logits, row, slice, targets[r], reference);
    }
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const MatrixView<float> variant_logits = SliceBuffer(kVariant, rows, slice.tokens);
      lm_head.MultiplyPanel(panel, variants[v], variant_logits);
      for (int64_t row = 0; row < rows; ++row) {
        const auto r = static_cast<std::size_t>(row);
        AccumulateLogits(variant_logits.RowSpan(row), first, networks[v].logits[r], {});
        AccumulateCrossTerm(logits.RowSpan(row), exponentials.RowSpan(row),
                            reference.logits[r].normalizer.maximum, variant_logits.RowSpan(row),
                            networks[v].cross_terms[r]);
        KeepTargetLogit(variant_logits, row, slice, targets[r], networks[v]);
      }
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    const TokenLogits& base = reference.logits[r];
    original_outcomes[r] = Outcome(base, base, reference.target_logits[row], 0.0);
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const TokenLogits& other = networks[v].logits[r];
      variant_outcomes[v][r] = Outcome(base, other, networks[v].target_logits[row],
                                       KlDivergence(base, other, networks[v].cross_terms[r]));
    }
  }
}

template void CompareTokens<float>(const PackedMatrix<float>&, MatrixView<const float>,
                                   std::span<const MatrixView<const float>>,
                                   std::span<const int32_t>, std::span<TokenOutcome>,
                                   std::span<const std::span<TokenOutcome>>);
template void CompareTokens<Bfloat16>(const PackedMatrix<Bfloat16>&, MatrixView<const Bfloat16>,
                                      std::span<const MatrixView<const Bfloat16>>,
                                      std::span<const int32_t>, std::span<TokenOutcome>,
                                      std::span<const std::span<TokenOutcome>>);

}  // namespace narrow
