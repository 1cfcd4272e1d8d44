#include "evaluation/token_loss.h"

#include <algorithm>
#include <vector>

#include "kernels/elementwise.h"

namespace narrow {

template <typename T>
void TokenLosses(const PackedMatrix<T>& lm_head, MatrixView<const T> normed,
                 std::span<const int32_t> targets, std::span<double> nll) {
  thread_local AlignedBuffer<float> buffer;
  const int64_t slice_rows = lm_head.panel_rows();
  if (buffer.size() < normed.rows * slice_rows) {
    buffer = AlignedBuffer<float>(normed.rows * slice_rows);
  }
  std::vector<LogSumExp> states(static_cast<std::size_t>(normed.rows));
  std::vector<float> target_logits(static_cast<std::size_t>(normed.rows));
  for (int64_t panel = 0; panel < lm_head.panel_count(); ++panel) {
    const int64_t first = panel * slice_rows;
    const int64_t count = std::min(slice_rows, lm_head.rows() - first);
    const MatrixView<float> logits(buffer.data(), normed.rows, count);
    lm_head.MultiplyPanel(panel, normed, logits);
    for (int64_t row = 0; row < normed.rows; ++row) {
      const auto r = static_cast<std::size_t>(row);
      AccumulateLogSumExp(logits.RowSpan(row), states[r]);
      const int64_t target = targets[r];
      if (target >= first && target < first + count) {
        target_logits[r] = logits.Row(row)[target - first];
      }
    }
  }
  for (std::size_t r = 0; r < states.size(); ++r) {
    nll[r] = Value(states[r]) - static_cast<double>(target_logits[r]);
  }
}

template void TokenLosses<float>(const PackedMatrix<float>&, MatrixView<const float>,
                                 std::span<const int32_t>, std::span<double>);
template void TokenLosses<Bfloat16>(const PackedMatrix<Bfloat16>&, MatrixView<const Bfloat16>,
                                    std::span<const int32_t>, std::span<double>);

}  // namespace narrow
