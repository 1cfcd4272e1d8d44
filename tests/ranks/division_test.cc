#include "stream/division.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/ranks.h"
#include "base/socket_ranks.h"

namespace narrow {
namespace {

TokenStream StreamOf(const std::vector<int64_t>& lengths) {
  TokenStream stream;
  for (const int64_t length : lengths) {
    stream.Append(std::vector<int32_t>(static_cast<std::size_t>(length), 7));
  }
  return stream;
}

// Every sequence is in one part, whole, in the order of the text, and rounds are whole.
void CheckDivision(const TokenStream& stream, const std::vector<Part>& parts, int64_t target) {
  NARROW_CHECK(parts.size() % static_cast<std::size_t>(JobRanks().count()) == 0);
  int64_t row = 0;
  std::size_t sequence = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Batch& batch = parts[i].batch;
    NARROW_CHECK(parts[i].rank == static_cast<int>(i) % JobRanks().count());
    NARROW_CHECK(batch.first_row == row);
    int64_t within = 0;
    for (const Sequence& part : batch.sequences) {
      NARROW_CHECK(part.first == within);
      NARROW_CHECK(part.count == stream.sequences[sequence++].count);
      within += part.count;
    }
    NARROW_CHECK(within == batch.rows);
    NARROW_CHECK(batch.rows <= target || batch.sequences.size() == 1);
    row += batch.rows;
  }
  NARROW_CHECK(row == stream.size() && sequence == stream.sequences.size());
}

TEST(DivisionTest, EverySequenceIsInOnePartInOrder) {
  for (const int ranks : {1, 2, 3, 4}) {
    std::vector<std::string> errors;
    const auto work = [] {
      for (const std::vector<int64_t>& lengths : std::vector<std::vector<int64_t>>{
               {5}, {5, 5}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {100, 1, 1, 1, 100, 1}, {9, 9, 9}}) {
        const TokenStream stream = StreamOf(lengths);
        for (const int64_t target : {1, 6, 20, 1000}) {
          CheckDivision(stream, DivideInRounds(stream, target), target);
        }
      }
    };
    EXPECT_TRUE(RunOnRanks(ranks, work, errors)) << errors.front();
  }
}

// By tokens, not by count: the longest share is close to the mean.
TEST(DivisionTest, SharesOfOneRoundAreAboutAsLongAsEachOther) {
  std::vector<std::string> errors;
  const auto work = [] {
    std::vector<int64_t> lengths(64, 10);
    lengths.insert(lengths.end(), 4, 160);
    const TokenStream stream = StreamOf(lengths);
    const std::vector<Part> parts = DivideInRounds(stream, 4096);
    NARROW_CHECK(parts.size() == 4);
    for (const Part& part : parts) NARROW_CHECK(part.batch.rows <= stream.size() / 4 + 10);
  };
  EXPECT_TRUE(RunOnRanks(4, work, errors)) << errors.front();
}

// Where the last round has fewer tokens than the others, no rank waits for it.
TEST(DivisionTest, TheSharesOfEveryRoundAreEven) {
  std::vector<std::string> errors;
  const auto work = [] {
    std::vector<int64_t> rows;
    for (const Part& part : DivideInRounds(StreamOf({10, 10, 10, 10, 10, 5, 5}), 20)) {
      rows.push_back(part.batch.rows);
    }
    NARROW_CHECK(rows == std::vector<int64_t>({20, 20, 10, 10}));
  };
  EXPECT_TRUE(RunOnRanks(2, work, errors)) << errors.front();
}

// Of each rank, what DivideInStretches gives it.
std::vector<int64_t> CostsOfRanks(const TokenStream& stream, std::span<const int64_t> costs,
                                  int64_t target) {
  const std::vector<Part> parts = DivideInStretches(stream, costs, target);
  const std::vector<int> ranks = RanksOf(parts);
  NARROW_CHECK(ranks.size() == costs.size() && std::ranges::is_sorted(ranks));
  int64_t row = 0;
  for (const Part& part : parts) {
    NARROW_CHECK(part.batch.first_row == row && part.batch.rows > 0);
    NARROW_CHECK(part.batch.rows <= target || part.batch.sequences.size() == 1);
    row += part.batch.rows;
  }
  NARROW_CHECK(row == stream.size());
  std::vector<int64_t> sums(static_cast<std::size_t>(JobRanks().count()));
  for (std::size_t i = 0; i < costs.size(); ++i) {
    sums.at(static_cast<std::size_t>(ranks[i])) += costs[i];
  }
  return sums;
}

TEST(DivisionTest, StretchesCostAboutAsMuchAsEachOther) {
  std::vector<std::string> errors;
  const auto work = [] {
    // 24 windows, of which four spread ones cost twice as much.
    const TokenStream windows = StreamOf(std::vector<int64_t>(24, 10));
    std::vector<int64_t> costs(24, 30);
    for (const std::size_t window : {0, 8, 15, 23}) costs[window] = 60;
    const std::vector<int64_t> of_ranks = CostsOfRanks(windows, costs, 40);
    NARROW_CHECK((JobRanks().count() == 2) == (of_ranks == std::vector<int64_t>{420, 420}));
    // By hand: 5 + 1 + 2 | 7 is the best of two, 5 + 1 | 2 | 7 of three.
    const std::vector<int64_t> uneven = {5, 1, 2, 7};
    const std::vector<int64_t> sums = CostsOfRanks(StreamOf({5, 1, 2, 7}), uneven, 100);
    NARROW_CHECK(std::ranges::max(sums) == (JobRanks().count() == 2 ? 8 : 7));
    // More ranks than sequences.
    CostsOfRanks(StreamOf({3}), std::vector<int64_t>{3}, 1);
  };
  for (const int ranks : {2, 3, 4}) {
    EXPECT_TRUE(RunOnRanks(ranks, work, errors)) << errors.front();
  }
}

TEST(DivisionTest, SequencesGoToTheRanksNamedForThem) {
  const TokenStream stream = StreamOf({4, 4, 4, 4, 4});
  const std::vector<int> ranks = {1, 1, 1, 0, 1};
  const std::vector<Part> parts = DivideLike(stream, ranks, 8);
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts[0].batch.rows, 8);
  EXPECT_EQ(parts[1].batch.rows, 4);
  EXPECT_EQ(parts[2].rank, 0);
  EXPECT_EQ(RanksOf(parts), ranks);
}

}  // namespace
}  // namespace narrow
