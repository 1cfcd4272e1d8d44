#include "text/token_stream.h"

#include <algorithm>
#include <cmath>

namespace narrow {

int64_t TokenStream::longest() const {
  int64_t longest = 0;
  for (const Sequence& sequence : sequences) longest = std::max(longest, sequence.count);
  return longest;
}

int64_t TokenStream::shortest() const {
  int64_t shortest = sequences.empty() ? 0 : sequences.front().count;
  for (const Sequence& sequence : sequences) shortest = std::min(shortest, sequence.count);
  return shortest;
}

int64_t TokenStream::mean_length() const {
  if (tokens.empty()) return 0;
  double squares = 0;
  for (const Sequence& sequence : sequences) {
    squares += static_cast<double>(sequence.count) * static_cast<double>(sequence.count);
  }
  return std::llround(squares / static_cast<double>(size()));
}

void TokenStream::Append(std::span<const int32_t> text) {
  sequences.push_back({size(), static_cast<int64_t>(text.size())});
  tokens.insert(tokens.end(), text.begin(), text.end());
}

std::vector<int64_t> PredictedTokens(const TokenStream& stream) {
  std::vector<int64_t> predicted;
  for (const Sequence& sequence : stream.sequences) predicted.push_back(sequence.count - 1);
  return predicted;
}

std::vector<int64_t> SpreadSequences(const TokenStream& stream, int64_t count) {
  const int64_t total = std::ssize(stream.sequences);
  count = std::min(count, total);
  std::vector<int64_t> sequences;
  for (int64_t i = 0; i < count; ++i) sequences.push_back(i * total / count);
  return sequences;
}

int64_t TokensOfSpread(const TokenStream& stream, int64_t count) {
  int64_t tokens = 0;
  for (const int64_t index : SpreadSequences(stream, count)) {
    tokens += stream.sequences[static_cast<std::size_t>(index)].count;
  }
  return tokens;
}

TokenStream SelectSequences(const TokenStream& stream, std::span<const int64_t> sequences,
                            int64_t max_tokens) {
  TokenStream selected;
  for (const int64_t index : sequences) {
    const Sequence& sequence = stream.sequences[static_cast<std::size_t>(index)];
    selected.Append(std::span(stream.tokens)
                        .subspan(static_cast<std::size_t>(sequence.first),
                                 static_cast<std::size_t>(std::min(sequence.count, max_tokens))));
  }
  return selected;
}

std::vector<Batch> MakeBatches(const TokenStream& stream, int64_t target_rows) {
  std::vector<Batch> batches;
  for (const Sequence& sequence : stream.sequences) {
    if (batches.empty() || batches.back().rows + sequence.count > target_rows) {
      batches.push_back({sequence.first, 0, {}});
    }
    Batch& batch = batches.back();
    batch.sequences.push_back({batch.rows, sequence.count});
    batch.rows += sequence.count;
  }
  return batches;
}

}  // namespace narrow
