// How a text is divided over the ranks of the job (base/ranks.h): by tokens, in whole sequences.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/token_stream.h"

namespace narrow {

// Rows of a text that one rank takes through the layers.
struct Part {
  Batch batch;
  int rank = 0;
};

// A batch of about `target_rows` rows for each rank in turn, in the order of the text, so that each
// round of them is a stretch of it. The last are empty where there are too few sequences, and all
// are about as long as each other.
std::vector<Part> DivideInRounds(const TokenStream& stream, int64_t target_rows);
// All of the stream, as one batch, to every rank.
std::vector<Part> OnEveryRank(const TokenStream& stream);
// Each sequence to the rank that is named for it.
std::vector<Part> DivideLike(const TokenStream& stream, std::span<const int> ranks,
                             int64_t target_rows);

// The rank of each sequence.
std::vector<int> RanksOf(std::span<const Part> parts);
// The batches of this rank that are not empty.
std::vector<Batch> OwnBatches(std::span<const Part> parts);

}  // namespace narrow
