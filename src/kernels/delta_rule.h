// The gated delta rule by chunks: a state of one head is read and written once for a chunk of
// tokens, and what the tokens of a chunk do to each other is a triangular system.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace narrow {

inline constexpr int64_t kDeltaChunk = 64;  // tokens

// For token t of a text, with a state S [key size, value size] that begins as zeros:
//   S = exp(log_decay[t]) S;  S += k[t]^T beta[t] (v[t] - k[t] S);  out[t] = q[t] S
// Owns the state and the buffers of a chunk. Thread-compatible; on the calling thread. A result
// depends on the text alone, from its beginning.
// Source: Yang et al., Gated Delta Networks, 2024, section 3.3.
class DeltaRule {
 public:
  DeltaRule(int64_t key_size, int64_t value_size);

  // Bytes that one holds.
  static int64_t Bytes(int64_t key_size, int64_t value_size);

  // Another text begins.
  void Reset();
  // The next tokens of the text, kDeltaChunk of them but for its last: q, k [n, key size],
  // v, out [n, value size], log_decay (none positive) and beta [n].
  void Step(MatrixView<const float> q, MatrixView<const float> k, MatrixView<const float> v,
            std::span<const float> log_decay, std::span<const float> beta, MatrixView<float> out);

 private:
  void Solve(int64_t count);

  int64_t key_size_, value_size_;
  AlignedBuffer<float> state_;       // [key size, value size]
  AlignedBuffer<float> system_;      // [chunk, chunk], its lower triangle negated
  AlignedBuffer<float> seen_;        // [chunk, chunk], what a query sees of a key
  AlignedBuffer<float> written_;     // [chunk, value size], what tokens write at their keys
  AlignedBuffer<float> transposed_;  // [key size, chunk]
};

}  // namespace narrow
