// Sums over one token's logits, fed slice by slice, that give its loss, its most probable tokens
// and the divergence of two networks. SIMD with run-time dispatch; on the calling thread.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>

namespace narrow {

// The largest logits in decreasing order and their tokens; of equal logits the lower token is
// first. With less than five logits the rest is token -1 at -infinity.
struct TopTokens {
  static constexpr float kNone = -std::numeric_limits<float>::infinity();
  std::array<float, 5> logits = {kNone, kNone, kNone, kNone, kNone};
  std::array<int32_t, 5> tokens = {-1, -1, -1, -1, -1};
};

// Running log-sum-exp of one token's logits.
struct LogSumExp {
  float maximum = -3.0e38f;
  double sum = 0.0;  // of exp(logit - maximum)
};
double Value(const LogSumExp& state);

struct TokenLogits {
  LogSumExp normalizer;
  TopTokens top;
};

// Feeds the logits of tokens first_token, first_token + 1, ...; slices come in increasing order.
// exponentials is empty or takes exp(logit - state.normalizer.maximum) of this slice, with the
// maximum as it is after the call (exponents below -87.33 count as that). Exponentials and sums of
// up to 1024 of them in f32, the sum of these in f64. A NaN makes the sum NaN and the top
// unspecified.
void AccumulateLogits(std::span<const float> logits, int64_t first_token, TokenLogits& state,
                      std::span<float> exponentials);

// sum of exp(z - maximum) * (z - z'), z the original's logits, z' the variant's.
struct CrossTerm {
  float maximum = -3.0e38f;
  double sum = 0.0;
};
// Adds a slice: exponentials as AccumulateLogits left them for the original's slice, whose maximum
// then was `maximum`. REQUIRES: equal sizes.
void AccumulateCrossTerm(std::span<const float> original, std::span<const float> exponentials,
                         float maximum, std::span<const float> variant, CrossTerm& state);

// KL(original || variant) in nats once the whole vocabulary has been fed, not negative:
//   sum p (log p - log p') = sum p (z - z') - lse(z) + lse(z').
// 0 exactly where the logits are equal; otherwise the error is some 1e-7 (1 + |mean of z - z'|).
double KlDivergence(const TokenLogits& original, const TokenLogits& variant,
                    const CrossTerm& cross_term);

}  // namespace narrow
