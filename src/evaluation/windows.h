// Which windows of a text are evaluated.
#pragma once

#include <cstdint>
#include <string>
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

// What reports say of the windows that were evaluated.
struct EvaluatedWindows {
  int64_t windows = 0;
  bool window_bos = false;             // each was made to begin with the begin of text
  std::string rope_factors{};          // "short" or "long" of a longrope model
  int64_t window_tokens = 0;           // of the longest
  int64_t shortest_window_tokens = 0;  // the same but for windows given as token ids
  int64_t tokens = 0;                  // in all windows together
};

// Indices of `requested` (0: all) of `total` windows, increasing. REQUIRES: total >= 0.
std::vector<int64_t> ChooseOf(int64_t total, int64_t requested, WindowChoice choice);

// Indices of `requested` windows (0: all) of floor(tokens / window_tokens), increasing. Window i
// holds tokens [i * window_tokens, (i + 1) * window_tokens): no overlap, the tail is dropped.
// Throws: kInvalidArgument when the text has no whole window, or window_tokens < 2.
std::vector<int64_t> ChooseWindows(int64_t tokens, int64_t window_tokens, int64_t requested,
                                   WindowChoice choice);

}  // namespace narrow
