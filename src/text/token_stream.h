// Tokens of many texts laid end to end, and the hidden states that travel through the layers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/sequence.h"
#include "tensor/tensor.h"

namespace narrow {

// Texts laid end to end: sequences[i] says which tokens belong to text i.
struct TokenStream {
  std::vector<int32_t> tokens;
  std::vector<Sequence> sequences;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t longest() const;
  int64_t shortest() const;
  // Length of the text that a token is in, the mean over the tokens: texts of this length would be
  // as much work for attention. 0 without tokens.
  int64_t mean_length() const;
  void Append(std::span<const int32_t> text);
};

// By sequence: its tokens that have a token before them. REQUIRES: none is empty.
std::vector<int64_t> PredictedTokens(const TokenStream& stream);

// Up to `count` sequences spread evenly over the stream: their indices, increasing.
std::vector<int64_t> SpreadSequences(const TokenStream& stream, int64_t count);
// Tokens of the sequences that SpreadSequences chooses.
int64_t TokensOfSpread(const TokenStream& stream, int64_t count);
// A stream of these sequences, each cut to `max_tokens`.
TokenStream SelectSequences(const TokenStream& stream, std::span<const int64_t> sequences,
                            int64_t max_tokens);

// A run of whole sequences that a layer processes together.
struct Batch {
  int64_t first_row = 0;  // in the stream
  int64_t rows = 0;
  std::vector<Sequence> sequences;  // rows counted from first_row
};

// Cuts a stream into batches of at least one sequence and about `target_rows` rows.
std::vector<Batch> MakeBatches(const TokenStream& stream, int64_t target_rows);

// The hidden states of a stream between two layers.
struct HiddenStates {
  HiddenStates(int64_t tokens, int64_t row_width)
      : rows(tokens), width(row_width), data(tokens * row_width) {}
  int64_t rows;
  int64_t width;
  AlignedBuffer<float> data;  // [rows, width]

  MatrixView<float> view() { return {data.data(), rows, width}; }
};

}  // namespace narrow
