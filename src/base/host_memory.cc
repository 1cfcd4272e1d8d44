#include "base/host_memory.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <thread>

#include "base/checked_math.h"
#include "base/error.h"

namespace narrow {
namespace {

constexpr int64_t kInlineBytes = 1024;               // shown in the header
constexpr int64_t kPieceBytes = int64_t{1} << 20;    // broadcast at a time: a rank's cache holds it
constexpr int64_t kHeaderBytes = int64_t{16} << 10;  // whole pages
constexpr int64_t kShownBegin = kHeaderBytes + 2 * kPieceBytes;
constexpr int64_t kGrowthBytes = int64_t{2} << 20;
constexpr auto kAwake = std::chrono::microseconds(30);
constexpr int64_t kAskNanoseconds = 100'000'000;  // after so long a wait, whether a rank has ended

// The words are in memory of several processes, so these are not the waits of std::atomic.
void WaitWhile(std::atomic<uint32_t>& word, uint32_t value) {
  const timespec longest = {0, kAskNanoseconds};
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value, &longest, nullptr, 0);
}
void WakeAll(std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr,
            0);
}

uint64_t NewSignature() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) ^ device();
}

}  // namespace

// At the beginning of every region.
struct HostMemory::Header {
  struct Shown {
    int64_t bytes = 0;
    int64_t offset = -1;  // in the region; -1: elsewhere, or here
    int64_t region_bytes = 0;
    std::array<std::byte, kInlineBytes> small;

    bool in_place() const { return offset >= 0 || bytes <= kInlineBytes; }
  };
  uint64_t signature = 0;
  std::array<Shown, 2> shown;  // now, and before: a rank may still read that
  // Of the barrier, in the region of the first rank.
  std::atomic<uint32_t> arrived = 0, generation = 0;
  static_assert(std::atomic<uint32_t>::is_always_lock_free);
};

HostMemory::Header& HostMemory::HeaderOf(int rank) const {
  static_assert(sizeof(Header) <= kHeaderBytes);
  return *reinterpret_cast<Header*>(regions_[static_cast<std::size_t>(rank)].data);
}

std::unique_ptr<HostMemory> HostMemory::Make(int rank, int count, std::function<int()> gone,
                                             std::function<void(int)> fail) {
  std::unique_ptr<HostMemory> memory(new HostMemory(rank, count, std::move(gone), std::move(fail)));
  if (!memory->Create()) return nullptr;
  return memory;
}

bool HostMemory::Create() {
  Region& own = Own();
  own.file = ::memfd_create("narrow-rank", MFD_CLOEXEC);
  if (own.file < 0 || ::ftruncate(own.file, kShownBegin) != 0 || !Map(own, kShownBegin)) {
    return false;
  }
  auto* header = new (own.data) Header;
  header->signature = NewSignature();
  address_ = {::getpid(), own.file, header->signature};
  return true;
}

HostMemory::~HostMemory() {
  for (const Region& region : regions_) {
    if (region.data != nullptr) ::munmap(region.data, static_cast<std::size_t>(region.mapped));
    if (region.file >= 0) ::close(region.file);
  }
}

bool HostMemory::Map(Region& region, int64_t bytes) {
  void* data = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED,
                      region.file, 0);
  if (data == MAP_FAILED) return false;
  if (region.data != nullptr) ::munmap(region.data, static_cast<std::size_t>(region.mapped));
  region.data = static_cast<std::byte*>(data);
  region.mapped = bytes;
  return true;
}

bool HostMemory::Open(int rank, const Address& address) {
  if (rank == rank_) return true;
  Region& region = regions_[static_cast<std::size_t>(rank)];
  const std::string path = fmt::format("/proc/{}/fd/{}", address.process, address.file);
  region.file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat facts = {};
  if (region.file < 0 || ::fstat(region.file, &facts) != 0 || !S_ISREG(facts.st_mode) ||
      facts.st_size != kShownBegin || !Map(region, kShownBegin)) {
    return false;
  }
  // A process of that number may be another one, where ranks are in containers of their own.
  return HeaderOf(rank).signature == address.signature;
}

void HostMemory::Barrier() {
  Header& first = HeaderOf(0);
  const uint32_t generation = first.generation.load(std::memory_order_acquire);
  const auto open = [&] { return first.generation.load(std::memory_order_acquire) != generation; };
  if (first.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(count_)) {
    first.arrived.store(0, std::memory_order_relaxed);
    first.generation.fetch_add(1, std::memory_order_release);
    WakeAll(first.generation);
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < kAwake) {
    if (open()) return;
    std::this_thread::yield();
  }
  while (!open()) {
    WaitWhile(first.generation, generation);
    if (open()) return;
    const int gone = gone_();
    if (gone >= 0 && !open()) fail_(gone);
  }
}

void HostMemory::Broadcast(std::span<std::byte> bytes, int root) {
  while (!bytes.empty()) {
    const std::size_t size = std::min<std::size_t>(bytes.size(), kPieceBytes);
    // The piece before this one may still be read, the one before that no longer.
    std::byte* const piece = regions_[static_cast<std::size_t>(root)].data + kHeaderBytes +
                             static_cast<int64_t>(pieces_++ % 2) * kPieceBytes;
    if (root == rank_) std::memcpy(piece, bytes.data(), size);
    Barrier();
    if (root != rank_) std::memcpy(bytes.data(), piece, size);
    bytes = bytes.subspan(size);
  }
}

void HostMemory::Announce(std::span<const std::byte> mine) {
  Region& own = Own();
  Header::Shown& shown = HeaderOf(rank_).shown[++announcements_ % 2];
  shown.bytes = std::ssize(mine);
  shown.region_bytes = own.mapped;
  const std::byte* const begin = own.data + kShownBegin;
  const bool inside =
      !mine.empty() && mine.data() >= begin && mine.data() + mine.size() <= own.data + own.mapped;
  shown.offset = inside ? mine.data() - own.data : -1;
  if (!inside && shown.bytes <= kInlineBytes && shown.bytes > 0) {
    std::memcpy(shown.small.data(), mine.data(), mine.size());
  }
  Barrier();
}

int64_t HostMemory::AnnouncedBytes(int rank) const {
  return HeaderOf(rank).shown[announcements_ % 2].bytes;
}

bool HostMemory::AllInPlace() const {
  for (int rank = 0; rank < count_; ++rank) {
    if (!HeaderOf(rank).shown[announcements_ % 2].in_place()) return false;
  }
  return true;
}

std::span<const std::byte> HostMemory::ShownBy(int rank) {
  const Header::Shown& shown = HeaderOf(rank).shown[announcements_ % 2];
  const auto size = static_cast<std::size_t>(shown.bytes);
  if (shown.offset < 0) return {shown.small.data(), size};
  const int64_t offset = shown.offset, region_bytes = shown.region_bytes;
  Region& region = regions_[static_cast<std::size_t>(rank)];
  if (region.mapped < region_bytes && !Map(region, region_bytes)) {
    Fail(ErrorCode::kMemoryBudget, "{} bytes of another rank of this host cannot be mapped",
         region_bytes);
  }
  return {region.data + offset, size};
}

std::span<std::byte> HostMemory::Reserve(int64_t bytes) {
  Region& own = Own();
  const int64_t needed = kShownBegin + RoundUp(bytes, kGrowthBytes);
  if (own.mapped < needed && (::ftruncate(own.file, needed) != 0 || !Map(own, needed))) {
    Fail(ErrorCode::kMemoryBudget, "{} bytes to share with the ranks of this host cannot be had",
         bytes);
  }
  return {own.data + kShownBegin, static_cast<std::size_t>(bytes)};
}

void HostMemory::Release() {
  const Region& own = Own();
  if (own.mapped == kShownBegin) return;
  ::fallocate(own.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kShownBegin,
              own.mapped - kShownBegin);
}

}  // namespace narrow
