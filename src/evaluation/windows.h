// Which windows of a text are evaluated.
#pragma once

#include <cstdint>
#include <vector>

namespace narrow {

enum class WindowChoice {
  kSpread,  // evenly over the text
  kFirst,
};

// What a window of text begins with. Some models (Gemma) were never without a begin of text, and
// their predictions collapse where it is not the first token.
enum class WindowStart {
  kFamily,       // as the model's family wants it
  kText,         // whatever stands there
  kBeginOfText,  // the begin-of-text token, and one token of the text less at its end
};

// Indices of `requested` (0: all) of `total` windows, increasing. REQUIRES: total >= 0.
std::vector<int64_t> ChooseOf(int64_t total, int64_t requested, WindowChoice choice);

// Indices of `requested` windows (0: all) of floor(tokens / window_tokens), increasing. Window i
// holds tokens [i * window_tokens, (i + 1) * window_tokens): no overlap, the tail is dropped.
// Throws: kInvalidArgument when the text has no whole window, or window_tokens < 2.
std::vector<int64_t> ChooseWindows(int64_t tokens, int64_t window_tokens, int64_t requested,
                                   WindowChoice choice);

}  // namespace narrow
