#include "evaluation/windows.h"

#include <algorithm>

#include "base/error.h"

namespace narrow {

std::vector<int64_t> ChooseOf(int64_t total, int64_t requested, WindowChoice choice) {
  const int64_t count = requested <= 0 ? total : std::min(requested, total);
  std::vector<int64_t> windows;
  for (int64_t i = 0; i < count; ++i) {
    windows.push_back(choice == WindowChoice::kSpread ? i * total / count : i);
  }
  return windows;
}

std::vector<int64_t> ChooseWindows(int64_t tokens, int64_t window_tokens, int64_t requested,
                                   WindowChoice choice) {
  if (window_tokens < 2) {
    Fail(ErrorCode::kInvalidArgument, "a window needs at least 2 tokens, not {}", window_tokens);
  }
  const int64_t total = tokens / window_tokens;
  if (total == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "the evaluation text has {} tokens, less than one window of {}; take a longer text or a "
         "smaller --window_tokens",
         tokens, window_tokens);
  }
  return ChooseOf(total, requested, choice);
}

}  // namespace narrow
