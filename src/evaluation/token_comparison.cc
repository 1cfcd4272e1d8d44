#include "evaluation/token_comparison.h"

#include <algorithm>

#include "base/error.h"
#include "device/operations.h"

namespace narrow {
namespace {

// The thread's memory for slices, one array per use; it grows with the largest tile.
enum BufferUse { kOriginal, kExponentials, kVariant, kBufferCount };
MatrixView<float> SliceBuffer(BufferUse use, int64_t rows, int64_t columns) {
  thread_local AlignedBuffer<float> buffers[kBufferCount];
  if (buffers[use].size() < rows * columns) buffers[use] = AlignedBuffer<float>(rows * columns);
  return {buffers[use].data(), rows, columns};
}

void CheckShapes(std::span<const LogitHead> heads, std::span<const ConstOperands> normed,
                 std::span<const int32_t> targets,
                 std::span<const std::span<NetworkState>> states) {
  NARROW_CHECK(!normed.empty() && states.size() == normed.size() && heads.size() == normed.size());
  const PackedWeights& first = *heads[0].rows;
  for (std::size_t n = 0; n < normed.size(); ++n) {
    const PackedWeights& head = *heads[n].rows;
    NARROW_CHECK(head.rows() == first.rows() && head.panel_rows() == first.panel_rows());
    NARROW_CHECK(normed[n].columns == head.columns());
    NARROW_CHECK(normed[n].rows == static_cast<int64_t>(targets.size()));
    NARROW_CHECK(states[n].size() == targets.size());
  }
  for (const int32_t target : targets) NARROW_CHECK(target >= 0);
}

void KeepTargetLogit(std::span<const float> logits, int64_t first_token, int32_t target,
                     NetworkState& state) {
  const int64_t offset = target - first_token;
  if (offset >= 0 && offset < static_cast<int64_t>(logits.size())) {
    state.target_logit = logits[static_cast<std::size_t>(offset)];
  }
}

int8_t Overlap(const TopTokens& a, const TopTokens& b) {
  const auto shared = std::count_if(a.tokens.begin(), a.tokens.end(), [&](int32_t token) {
    return std::find(b.tokens.begin(), b.tokens.end(), token) != b.tokens.end();
  });
  return static_cast<int8_t>(shared);
}

void Transform(const LogitTransform& transform, MatrixView<float> logits) {
  if (transform.scale == 1.0f && transform.softcap == 0.0f) return;
  for (int64_t row = 0; row < logits.rows; ++row) {
    const std::span<float> of_token = logits.RowSpan(row);
    if (transform.softcap > 0.0f) {
      SoftCap(of_token, transform.scale, transform.softcap);
    } else {
      ScaleTo<float>(of_token, transform.scale, of_token);
    }
  }
}

// One panel of the heads, whose first row is first_token.
void AddPanel(std::span<const LogitHead> heads, int64_t panel, int64_t first_token,
              std::span<const ConstOperands> normed, std::span<const int32_t> targets,
              std::span<const std::span<NetworkState>> states) {
  const int64_t rows = normed[0].rows;
  const PackedWeights& head = *heads[0].rows;
  const int64_t tokens = std::min(head.panel_rows(), head.rows() - panel * head.panel_rows());
  const MatrixView<float> logits = SliceBuffer(kOriginal, rows, tokens);
  // Once for all variants; without variants nobody needs them.
  const MatrixView<float> exponentials =
      normed.size() == 1 ? MatrixView<float>() : SliceBuffer(kExponentials, rows, tokens);
  head.MultiplyPanel(panel, normed[0], logits);
  Transform(heads[0].transform, logits);
  for (int64_t row = 0; row < rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    AccumulateLogits(logits.RowSpan(row), first_token, states[0][r].logits,
                     normed.size() == 1 ? std::span<float>() : exponentials.RowSpan(row));
    KeepTargetLogit(logits.RowSpan(row), first_token, targets[r], states[0][r]);
  }
  for (std::size_t n = 1; n < normed.size(); ++n) {
    const MatrixView<float> variant = SliceBuffer(kVariant, rows, tokens);
    heads[n].rows->MultiplyPanel(panel, normed[n], variant);
    Transform(heads[n].transform, variant);
    for (int64_t row = 0; row < rows; ++row) {
      const auto r = static_cast<std::size_t>(row);
      AccumulateLogits(variant.RowSpan(row), first_token, states[n][r].logits, {});
      AccumulateCrossTerm(logits.RowSpan(row), exponentials.RowSpan(row),
                          states[0][r].logits.normalizer.maximum, variant.RowSpan(row),
                          states[n][r].cross_term);
      KeepTargetLogit(variant.RowSpan(row), first_token, targets[r], states[n][r]);
    }
  }
}

}  // namespace

void AddLogits(std::span<const LogitHead> heads, int64_t first_token,
               std::span<const ConstOperands> normed, std::span<const int32_t> targets,
               std::span<const std::span<NetworkState>> states) {
  CheckShapes(heads, normed, targets, states);
  const PackedWeights& head = *heads[0].rows;
  for (int64_t panel = 0; panel < head.panel_count(); ++panel) {
    AddPanel(heads, panel, first_token + panel * head.panel_rows(), normed, targets, states);
  }
}

TokenOutcome OutcomeOf(const NetworkState& original, const NetworkState& network) {
  const TopTokens& top = network.logits.top;
  TokenOutcome outcome;
  outcome.nll = Value(network.logits.normalizer) - static_cast<double>(network.target_logit);
  outcome.kl = KlDivergence(original.logits, network.logits, network.cross_term);
  outcome.top1 = top.tokens.front();
  const int32_t right = original.logits.top.tokens.front();
  outcome.top1_agrees = outcome.top1 == right;
  outcome.top1_in_top5 = std::find(top.tokens.begin(), top.tokens.end(), right) != top.tokens.end();
  outcome.top5_overlap = Overlap(original.logits.top, top);
  return outcome;
}

}  // namespace narrow
