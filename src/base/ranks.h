// Work shared over the ranks of a job: processes, on one machine or several, that run the same
// program with the same arguments. What is not divided each of them computes for itself, to the
// same bits; what is divided they exchange here. As ParallelFor is to threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace narrow {

class HostMemory;

// How this process reaches the others. Every rank makes the same calls in the same order, with as
// many bytes; a call returns when its bytes are there, and sleeps until then. Not thread-safe.
// Throws: kIo naming a rank that is gone and its host; an implementation may end the process
// instead, after saying so.
class Ranks {
 public:
  virtual ~Ranks();

  int rank() const { return rank_; }
  int count() const { return static_cast<int>(hosts_.size()); }
  // The one that writes and talks to the user.
  bool leads() const { return rank_ == 0; }
  const std::string& host(int rank) const { return hosts_[static_cast<std::size_t>(rank)]; }
  // Ranks of this host: how many, and how many of them come before this one.
  int on_this_host() const;
  int place_on_host() const;
  // "rank 2 on h3".
  std::string Name(int rank) const;

  // The bytes of `root`, to all.
  void Broadcast(std::span<std::byte> bytes, int root);
  // The bytes of `from`, to `to`; the other ranks do nothing.
  void Transfer(std::span<std::byte> bytes, int from, int to);

  // Shows the bytes of every rank, however many, in the order of the ranks: visit(rank, bytes).
  using Visit = std::function<void(int rank, std::span<const std::byte> bytes)>;
  void InTurn(std::span<const std::byte> mine, const Visit& visit);
  // Every element becomes the largest that any rank has. Floats that are not negative, NaN among
  // them, are in the order of their bits.
  void Maximum(std::span<float> values);
  // A value of `root`, to all.
  template <typename T>
  void Share(T& value, int root = 0) {
    static_assert(std::is_trivially_copyable_v<T>);
    Broadcast(std::as_writable_bytes(std::span(&value, 1)), root);
  }
  void Share(std::string& text, int root = 0);
  // Returns when all ranks have come here.
  void Barrier();
  // Does the work on one rank of every host, then on the others: they find what it left there.
  void FirstOnHost(const std::function<void()>& work);

  // From now on the ranks exchange through memory they share, if all are on one host and can; what
  // they exchange does not change.
  void ShareHost();
  // Memory for what this rank will show in turn, which the others then read where it is; valid
  // until the next call. Nothing where they share no memory. Released when all have seen it.
  std::optional<std::span<std::byte>> ShownMemory(int64_t bytes);
  void ReleaseShown();
  bool shares_host() const { return host_memory_ != nullptr; }

  // Time spent in calls, for reports.
  double waited_seconds() const { return waited_seconds_; }

 protected:
  // `hosts`: of every rank.
  Ranks(int rank, std::vector<std::string> hosts);

 private:
  virtual void DoBroadcast(std::span<std::byte> bytes, int root) = 0;
  virtual void DoTransfer(std::span<std::byte> bytes, int from, int to) = 0;
  // A rank that has ended, or -1. Asked while this one waits for others in shared memory.
  virtual int GoneRank() { return -1; }
  void InTurnOnHost(std::span<const std::byte> mine, const Visit& visit);
  std::span<std::byte> RoomForShown(int64_t bytes);

  int rank_;
  std::vector<std::string> hosts_;
  std::vector<std::byte> shown_;  // in InTurn, of another rank
  std::unique_ptr<HostMemory> host_memory_;
  double waited_seconds_ = 0;
};

// The ranks of this job; one that is alone unless others were set. Not to be set while in use.
Ranks& JobRanks();
void SetJobRanks(std::unique_ptr<Ranks> ranks);

// Throws: kInvalidArgument naming the first host whose `value` differs from the leader's: `what` is
// something that all ranks must have alike.
void CheckAlike(Ranks& ranks, const std::string& what, const std::string& value);

}  // namespace narrow
