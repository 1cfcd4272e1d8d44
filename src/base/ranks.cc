#include "base/ranks.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"
#include "base/host_memory.h"
#include "base/phase_timer.h"

namespace narrow {
namespace {

class Alone final : public Ranks {
 public:
  Alone() : Ranks(0, {"this machine"}) {}

 private:
  void DoBroadcast(std::span<std::byte>, int) override {}
  void DoTransfer(std::span<std::byte>, int, int) override {}
};

std::unique_ptr<Ranks>& Current() {
  static std::unique_ptr<Ranks> ranks = std::make_unique<Alone>();
  return ranks;
}

}  // namespace

Ranks::Ranks(int rank, std::vector<std::string> hosts) : rank_(rank), hosts_(std::move(hosts)) {}
Ranks::~Ranks() = default;

int Ranks::on_this_host() const {
  return static_cast<int>(std::ranges::count(hosts_, host(rank_)));
}

int Ranks::place_on_host() const {
  return static_cast<int>(std::count(hosts_.begin(), hosts_.begin() + rank_, host(rank_)));
}

std::string Ranks::Name(int rank) const { return fmt::format("rank {} on {}", rank, host(rank)); }

void Ranks::Broadcast(std::span<std::byte> bytes, int root) {
  NARROW_CHECK(root >= 0 && root < count());
  if (bytes.empty()) return;
  const PhaseTimer timer(waited_seconds_);
  if (host_memory_ != nullptr) return host_memory_->Broadcast(bytes, root);
  DoBroadcast(bytes, root);
}

void Ranks::Transfer(std::span<std::byte> bytes, int from, int to) {
  NARROW_CHECK(from >= 0 && from < count() && to >= 0 && to < count());
  if (from == to || bytes.empty() || (rank_ != from && rank_ != to)) return;
  const PhaseTimer timer(waited_seconds_);
  DoTransfer(bytes, from, to);
}

std::span<std::byte> Ranks::RoomForShown(int64_t bytes) {
  if (std::ssize(shown_) < bytes) shown_.resize(static_cast<std::size_t>(bytes));
  return {shown_.data(), static_cast<std::size_t>(bytes)};
}

void Ranks::InTurn(std::span<const std::byte> mine, const Visit& visit) {
  if (host_memory_ != nullptr) return InTurnOnHost(mine, visit);
  for (int source = 0; source < count(); ++source) {
    int64_t size = std::ssize(mine);
    Share(size, source);
    if (source == rank_) {
      // Only read from: Broadcast takes what receives, too.
      Broadcast({const_cast<std::byte*>(mine.data()), mine.size()}, source);
      visit(source, mine);
      continue;
    }
    const std::span<std::byte> other = RoomForShown(size);
    Broadcast(other, source);
    visit(source, other);
  }
}

void Ranks::InTurnOnHost(std::span<const std::byte> mine, const Visit& visit) {
  {
    const PhaseTimer timer(waited_seconds_);
    host_memory_->Announce(mine);
  }
  if (host_memory_->AllInPlace()) {
    for (int source = 0; source < count(); ++source) {
      visit(source, source == rank_ ? mine : host_memory_->ShownBy(source));
    }
    Barrier();  // then what was shown may change
    return;
  }
  std::vector<int64_t> sizes;
  for (int source = 0; source < count(); ++source) {
    sizes.push_back(host_memory_->AnnouncedBytes(source));
  }
  for (int source = 0; source < count(); ++source) {
    if (source == rank_) {
      Broadcast({const_cast<std::byte*>(mine.data()), mine.size()}, source);
      visit(source, mine);
    } else {
      const std::span<std::byte> other = RoomForShown(sizes[static_cast<std::size_t>(source)]);
      Broadcast(other, source);
      visit(source, other);
    }
  }
}

void Ranks::ShareHost() {
  NARROW_CHECK(host_memory_ == nullptr);
  if (count() == 1 || on_this_host() != count()) return;
  std::unique_ptr<HostMemory> memory = HostMemory::Make(
      rank_, count(), [this] { return GoneRank(); },
      [this](int rank) { Fail(ErrorCode::kIo, "{} has ended", Name(rank)); });
  const HostMemory::Address own = memory != nullptr ? memory->address() : HostMemory::Address();
  bool good = memory != nullptr;
  InTurn(std::as_bytes(std::span(&own, 1)), [&](int rank, std::span<const std::byte> bytes) {
    HostMemory::Address address;
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(&address, 1)).begin());
    good = good && address.file >= 0 && memory->Open(rank, address);
  });
  const auto mine = static_cast<std::byte>(good);
  InTurn({&mine, 1}, [&](int, std::span<const std::byte> bytes) {
    good = good && bytes.front() != std::byte{0};
  });
  if (good) host_memory_ = std::move(memory);
}

std::optional<std::span<std::byte>> Ranks::ShownMemory(int64_t bytes) {
  if (host_memory_ == nullptr) return std::nullopt;
  return host_memory_->Reserve(bytes);
}

void Ranks::ReleaseShown() {
  if (host_memory_ != nullptr) host_memory_->Release();
}

void Ranks::Maximum(std::span<float> values) {
  if (count() == 1) return;
  const std::vector<float> mine(values.begin(), values.end());
  InTurn(std::as_bytes(std::span(mine)), [&](int, std::span<const std::byte> bytes) {
    NARROW_CHECK(bytes.size() == values.size_bytes());
    const auto* other = reinterpret_cast<const float*>(bytes.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::bit_cast<uint32_t>(other[i]) > std::bit_cast<uint32_t>(values[i])) {
        values[i] = other[i];
      }
    }
  });
}

void Ranks::Share(std::string& text, int root) {
  int64_t size = std::ssize(text);
  Share(size, root);
  text.resize(static_cast<std::size_t>(size));
  Broadcast(std::as_writable_bytes(std::span(text)), root);
}

void Ranks::Barrier() {
  if (host_memory_ != nullptr) {
    const PhaseTimer timer(waited_seconds_);
    return host_memory_->Barrier();
  }
  InTurn({}, [](int, std::span<const std::byte>) {});
}

void Ranks::FirstOnHost(const std::function<void()>& work) {
  if (place_on_host() == 0) work();
  Barrier();
  if (place_on_host() > 0) work();
}

Ranks& JobRanks() { return *Current(); }

void SetJobRanks(std::unique_ptr<Ranks> ranks) { Current() = std::move(ranks); }

void CheckAlike(Ranks& ranks, const std::string& what, const std::string& value) {
  std::string first;
  const auto show = [&](int rank, std::span<const std::byte> bytes) {
    std::string shown(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (rank == 0) {
      first = std::move(shown);
    } else if (shown != first) {
      Fail(ErrorCode::kInvalidArgument,
           "{} differs: {} on {}, {} on {}; all ranks of a job need the same", what, first,
           ranks.host(0), shown, ranks.Name(rank));
    }
  };
  ranks.InTurn(std::as_bytes(std::span(value)), show);
}

}  // namespace narrow
