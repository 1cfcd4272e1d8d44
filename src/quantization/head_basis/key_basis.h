// The basis of K and Q: how each pair of channels that the rotary embedding mixes is turned and
// scaled, so that FP8 rounds K with the least effect on the scores.
//
// A score is a sum over pairs of channels (i, i + head_size / 2) of q_1 k_1 + q_2 k_2. Turning the
// pair by one angle in K and in Q leaves it as it is, and so does a factor in K whose inverse is in
// Q; both commute with the rotary embedding, and nothing else does. The factor decides where on the
// grid of E4M3 values fall, within a power of two. The angle decides which channel has them: a
// rounding error is relative to its channel, so it counts least where q is small when k is large.
#pragma once

#include <cstdint>
#include <vector>

#include "device/grid_errors.h"
#include "kernels/attention_heads.h"
#include "tensor/tensor.h"

namespace narrow {

// Angles tried, evenly over a quarter turn; a quarter only swaps the channels.
inline constexpr int64_t kKeyAngles = 8;

// k' = factor * (cosine k_1 - sine k_2, sine k_1 + cosine k_2); q' the same with 1 / factor. One of
// each for every pair of every key-value head: [key_value_heads * head_size / 2]. Empty for none.
struct KeyBasis {
  std::vector<float> factors, cosines, sines;

  bool empty() const { return factors.empty(); }
};

// Sums over tokens from which the basis is chosen. Thread-compatible; Add uses all threads, and the
// sums depend neither on their number nor on how the tokens are split over calls.
class KeyBasisStatistics {
 public:
  explicit KeyBasisStatistics(const AttentionHeads& heads);

  // After the rotary embedding: queries [tokens, query heads * head size], keys [tokens, key-value
  // heads * head size].
  void Add(ConstOperands queries, ConstOperands keys);
  void AddQueries(ConstOperands queries);
  void AddKeys(ConstOperands keys);
  // As GridErrors: gives every rank of the job all sums. Add nothing afterwards.
  void Share() { errors_.Share(); }

  // For each pair the angle and factor with the least expected squared error of the scores: in each
  // channel the mean square of q times that of the error of k. Without the part of the error that
  // all keys share, which moves every score of a query alike; the softmax does not see it.
  KeyBasis Choose() const;

  // Memory of the sums and of Add, for budgets.
  static int64_t Bytes(const AttentionHeads& heads);

 private:
  // Sums of q_1^2, q_1 q_2 and q_2^2 over the query heads that share a key-value head.
  struct QuerySquares {
    double first = 0.0, mixed = 0.0, second = 0.0;
  };

  AttentionHeads heads_;
  GridErrors errors_;                  // channels: [kKeyAngles, key-value width]
  std::vector<QuerySquares> queries_;  // [pairs]
  AlignedBuffer<float> turned_;        // keys at all angles, some tokens at a time
};

// Turns a pair of rows, or of numbers.
inline void TurnPair(float cosine, float sine, float factor, float& first, float& second) {
  const float a = first, b = second;
  first = factor * (cosine * a - sine * b);
  second = factor * (sine * a + cosine * b);
}

}  // namespace narrow
