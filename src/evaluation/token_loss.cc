#include "evaluation/token_loss.h"

#include <vector>

#include "base/error.h"
#include "evaluation/token_comparison.h"

namespace narrow {

template <typename T>
void TokenLosses(const PackedMatrix<T>& lm_head, MatrixView<const T> normed,
                 std::span<const int32_t> targets, std::span<double> nll) {
  NARROW_CHECK(nll.size() == targets.size());
  std::vector<TokenOutcome> outcomes(nll.size());
  CompareTokens<T>(lm_head, normed, {}, targets, outcomes, {});
  for (std::size_t i = 0; i < nll.size(); ++i) nll[i] = outcomes[i].nll;
}

template void TokenLosses<float>(const PackedMatrix<float>&, MatrixView<const float>,
                                 std::span<const int32_t>, std::span<double>);
template void TokenLosses<Bfloat16>(const PackedMatrix<Bfloat16>&, MatrixView<const Bfloat16>,
                                    std::span<const int32_t>, std::span<double>);

}  // namespace narrow
