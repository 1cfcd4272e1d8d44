#include "stream/division.h"

#include <algorithm>
#include <numeric>

#include "base/checked_math.h"
#include "base/ranks.h"

namespace narrow {
namespace {

// As many batches as whole rounds have, as even as that allows.
std::vector<Batch> MakeRounds(const TokenStream& stream, int64_t target_rows, int64_t ranks) {
  std::vector<Batch> batches = MakeBatches(stream, target_rows);
  if (ranks == 1) return batches;
  const auto needed = static_cast<std::size_t>(RoundUp(std::ssize(batches), ranks));
  int64_t low = 1, high = target_rows;  // the lowest target that takes no more than these
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (MakeBatches(stream, middle).size() <= needed) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  batches = MakeBatches(stream, high);
  batches.resize(needed, Batch{stream.size(), 0, {}});
  return batches;
}

// The stretch of each sequence when none may cost more than `most`.
std::vector<int> StretchesUpTo(std::span<const int64_t> costs, int64_t most) {
  std::vector<int> stretches;
  int64_t cost = 0;
  int stretch = 0;
  for (const int64_t next : costs) {
    if (cost + next > most) {
      ++stretch;
      cost = 0;
    }
    cost += next;
    stretches.push_back(stretch);
  }
  return stretches;
}

// The same for at most `count` stretches, of which the costliest costs as little as can be.
std::vector<int> Stretches(std::span<const int64_t> costs, int count) {
  if (costs.empty()) return {};
  int64_t low = *std::ranges::max_element(costs);
  int64_t high = std::accumulate(costs.begin(), costs.end(), int64_t{0});
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (StretchesUpTo(costs, middle).back() < count) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return StretchesUpTo(costs, high);
}

// The sequences of a round's batches to the ranks, each about as many tokens as any other. As the
// batches are where one is larger than it should be: others would become as large.
void AddRound(std::span<const Batch> batches, int64_t target_rows, std::vector<Part>& parts) {
  if (std::ranges::max(batches, {}, &Batch::rows).rows > target_rows) {
    for (std::size_t i = 0; i < batches.size(); ++i) {
      parts.push_back({batches[i], static_cast<int>(i)});
    }
    return;
  }
  std::vector<int64_t> lengths;
  for (const Batch& batch : batches) {
    for (const Sequence& sequence : batch.sequences) lengths.push_back(sequence.count);
  }
  const std::vector<int> ranks = Stretches(lengths, static_cast<int>(batches.size()));
  int64_t row = batches.front().first_row;
  std::size_t next = 0;
  for (int rank = 0; rank < static_cast<int>(batches.size()); ++rank) {
    Part& part = parts.emplace_back(Part{{row, 0, {}}, rank});
    for (; next < lengths.size() && ranks[next] == rank; ++next) {
      part.batch.sequences.push_back({part.batch.rows, lengths[next]});
      part.batch.rows += lengths[next];
    }
    row += part.batch.rows;
  }
}

}  // namespace

std::vector<Part> DivideInRounds(const TokenStream& stream, int64_t target_rows) {
  const auto ranks = static_cast<std::size_t>(JobRanks().count());
  const std::vector<Batch> batches = MakeRounds(stream, target_rows, JobRanks().count());
  std::vector<Part> parts;
  for (std::size_t i = 0; i < batches.size(); i += ranks) {
    AddRound(std::span(batches).subspan(i, ranks), target_rows, parts);
  }
  return parts;
}

std::vector<Part> DivideInStretches(const TokenStream& stream, std::span<const int64_t> costs,
                                    int64_t target_rows) {
  NARROW_CHECK(costs.size() == stream.sequences.size());
  return DivideLike(stream, Stretches(costs, JobRanks().count()), target_rows);
}

std::vector<int64_t> CostsOf(const TokenStream& stream, int64_t networks,
                             std::span<const int64_t> named, int64_t more) {
  std::vector<int64_t> costs;
  for (const Sequence& sequence : stream.sequences) costs.push_back(networks * sequence.count);
  for (const int64_t index : named) {
    const auto i = static_cast<std::size_t>(index);
    costs[i] += more * stream.sequences[i].count;
  }
  return costs;
}

std::vector<Part> DivideLike(const TokenStream& stream, std::span<const int> ranks,
                             int64_t target_rows) {
  std::vector<Part> parts;
  for (std::size_t i = 0; i < stream.sequences.size(); ++i) {
    const Sequence& sequence = stream.sequences[i];
    if (parts.empty() || parts.back().rank != ranks[i] ||
        parts.back().batch.rows + sequence.count > target_rows) {
      parts.push_back({{sequence.first, 0, {}}, ranks[i]});
    }
    Batch& batch = parts.back().batch;
    batch.sequences.push_back({batch.rows, sequence.count});
    batch.rows += sequence.count;
  }
  return parts;
}

std::vector<int> RanksOf(std::span<const Part> parts) {
  std::vector<int> ranks;
  for (const Part& part : parts) {
    ranks.insert(ranks.end(), part.batch.sequences.size(), part.rank);
  }
  return ranks;
}

std::vector<int> RanksOf(std::span<const Part> parts, std::span<const int64_t> sequences) {
  const std::vector<int> all = RanksOf(parts);
  std::vector<int> ranks;
  for (const int64_t sequence : sequences) ranks.push_back(all[static_cast<std::size_t>(sequence)]);
  return ranks;
}

std::vector<Batch> OwnBatches(std::span<const Part> parts) {
  std::vector<Batch> batches;
  for (const Part& part : parts) {
    if (part.rank == JobRanks().rank() && part.batch.rows > 0) batches.push_back(part.batch);
  }
  return batches;
}

}  // namespace narrow
