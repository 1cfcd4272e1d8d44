#include "stream/division.h"

#include <gtest/gtest.h>

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
