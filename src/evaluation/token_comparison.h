// What quantization does to the prediction of each token, with the vocabulary in slices: no row of
// logits ever exists whole.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "device/packed_weights.h"
#include "kernels/divergence.h"
#include "tensor/tensor.h"

namespace narrow {

// How one network (the variant) predicts one token, beside the original network. The original's own
// outcome compares it with itself. Of equal logits the lower token ranks first.
struct TokenOutcome {
  double nll = 0.0;          // -log of the right token's probability, nats
  double kl = 0.0;           // KL(original || variant) of the two distributions, nats; not negative
  int32_t top1 = 0;          // the variant's most probable token
  bool top1_agrees = false;  // it is the original's most probable token, too
  bool top1_in_top5 = false;  // the original's most probable token is in the variant's top 5
  int8_t top5_overlap = 0;    // tokens in both top 5, in any order: 0 to 5. A vocabulary of
                              // less than five counts the missing ones as agreeing
  double probability() const { return std::exp(-nll); }  // of the right token
};

// What one network's logits of one token have come to after some slices of the vocabulary: all that
// is kept of them, however many slices there are.
struct NetworkState {
  TokenLogits logits;
  float target_logit = 0.0f;  // of the right token, once its slice has been added
  CrossTerm cross_term;       // with the original; stays empty in the original
};

// What a product with the head becomes as a logit: softcap tanh(scale x / softcap), or scale x
// where there is no cap.
struct LogitTransform {
  float scale = 1.0f;
  float softcap = 0.0f;
};

// Rows first_token, first_token + 1, ... of the head of a network, in panels that are multiplied
// one after the other.
struct LogitHead {
  const PackedWeights* rows = nullptr;
  LogitTransform transform;
};

// Adds a slice of the vocabulary to the states of a tile of tokens, on the calling thread.
// heads[n]: of network n; several may be the same; normed[n] [rows, hidden]: hidden states of
// network n after the final norm, the original's first; targets: the right tokens, of this slice or
// not; states[n] [rows]: as the slices before left them. Slices come in increasing order. Logits
// and exponentials in f32, sums in f64 (kernels/divergence.h), so that the height of the panels
// moves nll and kl by some 1e-7; how panels are shared out over slices changes nothing. A row's
// states depend on that row alone, and a variant's not on the other variants. Takes 3 * rows *
// panel_rows floats, which the thread keeps. REQUIRES: a network or more; heads of the same shape
// in panels of the same height; as many states and targets as rows; 0 <= target.
void AddLogits(std::span<const LogitHead> heads, int64_t first_token,
               std::span<const ConstOperands> normed, std::span<const int32_t> targets,
               std::span<const std::span<NetworkState>> states);

// The outcome of a network once the whole vocabulary has been added; of the original, with itself.
// NaN or infinite logits give nll or kl that are not finite.
TokenOutcome OutcomeOf(const NetworkState& original, const NetworkState& network);

// Rows of a panel of lm_head: logits of 256 tokens by one panel (1 MB) stay in a core's cache.
inline constexpr int64_t kVocabularySlice = 1024;
inline constexpr int64_t kLossTileRows = 256;

}  // namespace narrow
