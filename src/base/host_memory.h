// Memory that the ranks of one host share, through which they exchange what they would otherwise
// send: one copy of what all read, and no wait for a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace narrow {

// A region of each rank, an anonymous file that the others map. All ranks make the same calls in
// the same order, as those of Ranks (base/ranks.h), which is who makes them. A rank that waits
// sleeps.
class HostMemory {
 public:
  // Where the others find the region of a rank.
  struct Address {
    int64_t process = 0;
    int64_t file = -1;       // of that process
    uint64_t signature = 0;  // the region begins with it
  };

  // `gone`: a rank that has ended, or -1; it is asked now and then while this one waits, and then
  // named by `fail`, which throws. Null where such memory cannot be had.
  static std::unique_ptr<HostMemory> Make(int rank, int count, std::function<int()> gone,
                                          std::function<void(int)> fail);
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  const Address& address() const { return address_; }
  // False where the region of that rank cannot be reached.
  bool Open(int rank, const Address& address);

  void Barrier();
  // The bytes of `root`, to all.
  void Broadcast(std::span<std::byte> bytes, int root);

  // Shows all what this rank has. Afterwards ShownBy(rank) is what that rank has, where it lies in
  // its region or is small, and AllInPlace(), that this is so of every rank; until Barrier().
  void Announce(std::span<const std::byte> mine);
  int64_t AnnouncedBytes(int rank) const;
  bool AllInPlace() const;
  std::span<const std::byte> ShownBy(int rank);

  // Memory in the region of this rank, valid until the next call; and its release.
  std::span<std::byte> Reserve(int64_t bytes);
  void Release();

 private:
  struct Header;
  struct Region {
    int file = -1;
    std::byte* data = nullptr;
    int64_t mapped = 0;
  };

  HostMemory(int rank, int count, std::function<int()> gone, std::function<void(int)> fail)
      : rank_(rank),
        count_(count),
        gone_(std::move(gone)),
        fail_(std::move(fail)),
        regions_(static_cast<std::size_t>(count)) {}
  bool Create();
  // Maps that much of a region; false where that fails.
  static bool Map(Region& region, int64_t bytes);
  Region& Own() { return regions_[static_cast<std::size_t>(rank_)]; }
  Header& HeaderOf(int rank) const;

  int rank_, count_;
  std::function<int()> gone_;
  std::function<void(int)> fail_;
  Address address_;
  std::vector<Region> regions_;
  uint64_t pieces_ = 0;         // broadcast so far
  uint64_t announcements_ = 0;  // made so far
};

}  // namespace narrow
