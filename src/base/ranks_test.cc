#include "base/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <limits>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "base/socket_ranks.h"

namespace narrow {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

// A rank of other length and content than the others.
std::vector<int64_t> Words(int rank) {
  std::vector<int64_t> words(static_cast<std::size_t>(rank * 1000 + 1));
  std::iota(words.begin(), words.end(), rank);
  return words;
}

TEST(RanksTest, AloneSeesItselfAndCopiesNothing) {
  const std::vector<int64_t> mine = Words(3);
  int visits = 0;
  JobRanks().InTurn(std::as_bytes(std::span(mine)), [&](int rank, auto bytes) {
    EXPECT_EQ(rank, 0);
    EXPECT_EQ(bytes.data(), reinterpret_cast<const std::byte*>(mine.data()));
    ++visits;
  });
  EXPECT_EQ(visits, 1);
  EXPECT_EQ(JobRanks().count(), 1);
  EXPECT_TRUE(JobRanks().leads());
}

TEST(RanksTest, EveryRankSeesTheBytesOfAllInOrder) {
  for (const int count : {1, 2, 3, 4}) {
    std::vector<std::string> errors;
    const auto work = [&] {
      Ranks& ranks = JobRanks();
      NARROW_CHECK(ranks.count() == count);
      const std::vector<int64_t> mine = Words(ranks.rank());
      int next = 0;
      ranks.InTurn(std::as_bytes(std::span(mine)), [&](int rank, auto bytes) {
        NARROW_CHECK(rank == next++);
        const std::vector<int64_t> expected = Words(rank);
        NARROW_CHECK(bytes.size() == expected.size() * sizeof(int64_t));
        NARROW_CHECK(std::ranges::equal(bytes, std::as_bytes(std::span(expected))));
      });
      NARROW_CHECK(next == count);
      std::string text = fmt::format("of rank {}", ranks.rank());
      ranks.Share(text, count - 1);
      NARROW_CHECK(text == fmt::format("of rank {}", count - 1));
      ranks.Barrier();
    };
    EXPECT_TRUE(RunOnRanks(count, work, errors));
    EXPECT_THAT(errors, Each(IsEmpty()));
  }
}

// Bytes of rank `rank` in round `round`, more for some than for others.
std::vector<std::byte> BytesOf(int rank, int round, int64_t most) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(most * (rank + 1) / 4));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(rank * 31 + round));
  }
  return bytes;
}

// On one host and on several, from memory that is shown and from other, more than is sent at a
// time.
TEST(RanksTest, MemoryThatIsShownSaysTheSameAsMessages) {
  const auto work = [] {
    Ranks& ranks = JobRanks();
    NARROW_CHECK(ranks.shares_host() == (ranks.on_this_host() == ranks.count()));
    for (int round = 0; round < 6; ++round) {
      const int64_t most = round % 2 == 0 ? 40 : 5'000'000;
      const std::vector<std::byte> mine = BytesOf(ranks.rank(), round, most);
      std::span<const std::byte> from = mine;
      const auto shown = ranks.ShownMemory(std::ssize(mine));
      NARROW_CHECK(shown.has_value() == ranks.shares_host());
      if (shown && round % 3 == 0) {
        std::ranges::copy(mine, shown->begin());
        from = *shown;
      }
      int next = 0;
      ranks.InTurn(from, [&](int rank, std::span<const std::byte> bytes) {
        NARROW_CHECK(rank == next++);
        NARROW_CHECK(std::ranges::equal(bytes, BytesOf(rank, round, most)));
      });
      if (round == 3) ranks.ReleaseShown();
      std::vector<std::byte> one = BytesOf(round % ranks.count() == ranks.rank() ? 2 : 0, 1, most);
      one.resize(static_cast<std::size_t>(most / 2));
      ranks.Broadcast(one, round % ranks.count());
      std::vector<std::byte> expected = BytesOf(2, 1, most);
      expected.resize(one.size());
      NARROW_CHECK(one == expected);
    }
  };
  for (const auto& hosts :
       std::vector<std::vector<std::string>>{{"a", "a"}, {"a", "a", "a", "a"}, {"a", "a", "b"}}) {
    std::vector<std::string> errors;
    EXPECT_TRUE(RunOnRanks(static_cast<int>(hosts.size()), work, errors, hosts));
    EXPECT_THAT(errors, Each(IsEmpty()));
  }
}

// Those who wait in shared memory hear of it, too.
TEST(RanksTest, ARankOfTheSameHostThatEndsIsNamed) {
  std::vector<std::string> errors;
  const auto work = [] {
    NARROW_CHECK(JobRanks().shares_host());
    if (JobRanks().rank() == 1) Fail(ErrorCode::kNumeric, "rank 1 has seen NaN");
    JobRanks().Barrier();
  };
  EXPECT_FALSE(RunOnRanks(3, work, errors));
  EXPECT_THAT(errors[0], HasSubstr("has ended"));
  EXPECT_THAT(errors[2], HasSubstr("has ended"));
}

TEST(RanksTest, ARankThatWaitsSleeps) {
  const auto work = [] {
    if (JobRanks().rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(600));
    JobRanks().Barrier();
    const double busy = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
    NARROW_CHECK(busy < 0.1);
  };
  std::vector<std::string> errors;
  EXPECT_TRUE(RunOnRanks(3, work, errors)) << errors[0] << errors[1] << errors[2];
}

TEST(RanksTest, MaximumKeepsNanAndInfinityOfAnyRank) {
  std::vector<std::string> errors;
  const auto work = [] {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const int rank = JobRanks().rank();
    std::vector<float> values = {static_cast<float>(rank), 7.0f - static_cast<float>(rank),
                                 rank == 1 ? std::nanf("") : kInfinity, rank == 2 ? kInfinity : 1};
    JobRanks().Maximum(values);
    NARROW_CHECK(values[0] == 2.0f && values[1] == 7.0f);
    NARROW_CHECK(std::isnan(values[2]) && values[3] == kInfinity);
  };
  EXPECT_TRUE(RunOnRanks(3, work, errors)) << errors[0] << errors[1] << errors[2];
}

TEST(RanksTest, TransferReachesOneRank) {
  std::vector<std::string> errors;
  const auto work = [] {
    int64_t value = JobRanks().rank();
    JobRanks().Transfer(std::as_writable_bytes(std::span(&value, 1)), 2, 1);
    NARROW_CHECK(value == (JobRanks().rank() == 1 ? 2 : JobRanks().rank()));
  };
  EXPECT_TRUE(RunOnRanks(3, work, errors)) << errors[0] << errors[1] << errors[2];
}

TEST(RanksTest, PlacesAreCountedOnEachHost) {
  std::vector<std::string> errors;
  const auto work = [] {
    const int rank = JobRanks().rank();
    NARROW_CHECK(JobRanks().on_this_host() == (rank == 2 ? 1 : 3));
    NARROW_CHECK(JobRanks().place_on_host() == std::vector<int>({0, 1, 0, 2})[rank]);
  };
  EXPECT_TRUE(RunOnRanks(4, work, errors, {"a", "a", "b", "a"})) << errors[0] << errors[1];
}

TEST(RanksTest, ARankThatEndsIsNamedWithItsHost) {
  std::vector<std::string> errors;
  const auto work = [] {
    if (JobRanks().rank() == 1) Fail(ErrorCode::kNumeric, "rank 1 has seen NaN");
    JobRanks().Barrier();
    JobRanks().Barrier();
  };
  EXPECT_FALSE(RunOnRanks(3, work, errors, {"a", "b", "c"}));
  EXPECT_EQ(errors[1], "rank 1 has seen NaN");
  EXPECT_THAT(errors[0], HasSubstr("rank 1 on b has ended"));
  EXPECT_THAT(errors[2], HasSubstr("has ended"));
}

TEST(RanksTest, WhatDiffersIsNamedWithItsHost) {
  std::vector<std::string> errors;
  const auto work = [] {
    CheckAlike(JobRanks(), "the model", "7B");
    CheckAlike(JobRanks(), "the program version", JobRanks().rank() == 2 ? "0.2" : "0.1");
  };
  EXPECT_FALSE(RunOnRanks(3, work, errors, {"a", "b", "c"}));
  for (const std::string& error : errors) {
    EXPECT_EQ(error,
              "the program version differs: 0.1 on a, 0.2 on rank 2 on c; all ranks of a job need "
              "the same");
  }
}

}  // namespace
}  // namespace narrow
