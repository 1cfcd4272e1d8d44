#include "stream/token_positions.h"

#include <algorithm>
#include <numeric>

namespace narrow {

TokenPositions::TokenPositions(std::span<const int32_t> tokens)
    : tokens_(tokens), positions_(tokens.size()) {
  std::iota(positions_.begin(), positions_.end(), int64_t{0});
  std::ranges::stable_sort(positions_, {}, [&](int64_t position) {
    return tokens_[static_cast<std::size_t>(position)];
  });
}

std::span<const int64_t> TokenPositions::Of(int64_t first, int64_t count) const {
  const auto token = [&](int64_t position) {
    return int64_t{tokens_[static_cast<std::size_t>(position)]};
  };
  const auto begin = std::ranges::lower_bound(positions_, first, {}, token);
  const auto end = std::ranges::lower_bound(begin, positions_.end(), first + count, {}, token);
  return {begin, end};
}

}  // namespace narrow
