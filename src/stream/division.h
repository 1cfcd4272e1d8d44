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
// A stretch of the text to each rank, in batches of about `target_rows` rows: the one that costs
// most costs as little as whole sequences allow. `costs`: of each sequence, 0 or more. There may be
// fewer stretches than ranks.
std::vector<Part> DivideInStretches(const TokenStream& stream, std::span<const int64_t> costs,
                                    int64_t target_rows);
// What a pass does with each sequence, in tokens: so many networks take all of them, and some more
// those that are named, too.
std::vector<int64_t> CostsOf(const TokenStream& stream, int64_t networks,
                             std::span<const int64_t> named = {}, int64_t more = 0);
// Each sequence to the rank that is named for it.
std::vector<Part> DivideLike(const TokenStream& stream, std::span<const int> ranks,
                             int64_t target_rows);

// The rank of each sequence, and of some of them.
std::vector<int> RanksOf(std::span<const Part> parts);
std::vector<int> RanksOf(std::span<const Part> parts, std::span<const int64_t> sequences);
// The batches of this rank that are not empty.
std::vector<Batch> OwnBatches(std::span<const Part> parts);

}  // namespace narrow
