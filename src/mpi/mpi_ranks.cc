#include "mpi/mpi_ranks.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPieceBytes = int64_t{64} << 20;  // an MPI count is an int
constexpr auto kSpinning = std::chrono::microseconds(200);
constexpr auto kShortestPause = std::chrono::microseconds(20);
constexpr auto kLongestPause = std::chrono::microseconds(1000);
constexpr auto kBeat = std::chrono::seconds(1);
constexpr int kBeatTag = 1;

std::vector<std::string> HostNames(int count) {
  std::array<char, MPI_MAX_PROCESSOR_NAME> own = {};
  int length = 0;
  MPI_Get_processor_name(own.data(), &length);
  std::vector<char> all(static_cast<std::size_t>(count) * own.size());
  MPI_Allgather(own.data(), static_cast<int>(own.size()), MPI_CHAR, all.data(),
                static_cast<int>(own.size()), MPI_CHAR, MPI_COMM_WORLD);
  std::vector<std::string> names;
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(count); ++rank) {
    names.emplace_back(all.data() + rank * own.size());
  }
  return names;
}

int WorldRank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int WorldSize() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

// Exchanges a byte with every other rank each second, on a communicator of its own. MPI is called
// by one thread at a time: whoever holds the mutex.
class Heartbeat {
 public:
  Heartbeat(const Ranks& ranks, std::mutex& mpi) : ranks_(ranks), mpi_(mpi) {
    MPI_Comm_dup(MPI_COMM_WORLD, &communicator_);
    const auto now = Clock::now();
    for (int rank = 0; rank < ranks.count(); ++rank) {
      if (rank != ranks.rank()) peers_.push_back({rank, now});
    }
    for (Peer& peer : peers_) Listen(peer);
    thread_ = std::thread([this] { Run(); });
  }
  ~Heartbeat() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
    ::close(errors_);
    const std::lock_guard lock(mpi_);
    for (Peer& peer : peers_) {
      MPI_Cancel(&peer.receiving);
      MPI_Request_free(&peer.receiving);
      if (peer.sending != MPI_REQUEST_NULL) MPI_Request_free(&peer.sending);
    }
  }
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

 private:
  struct Peer {
    int rank = 0;
    Clock::time_point heard;
    char received = 0, sent = 0;
    MPI_Request receiving = MPI_REQUEST_NULL, sending = MPI_REQUEST_NULL;
  };

  void Listen(Peer& peer) {
    MPI_Irecv(&peer.received, 1, MPI_CHAR, peer.rank, kBeatTag, communicator_, &peer.receiving);
  }

  void Run() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, kBeat, [this] { return stop_; })) {
      const std::lock_guard mpi_lock(mpi_);
      for (Peer& peer : peers_) Beat(peer);
    }
  }

  void Beat(Peer& peer) {
    int done = 0;
    for (MPI_Test(&peer.receiving, &done, MPI_STATUS_IGNORE); done != 0;
         MPI_Test(&peer.receiving, &done, MPI_STATUS_IGNORE)) {
      peer.heard = Clock::now();
      Listen(peer);
    }
    // MPI_Test of no request is true.
    MPI_Test(&peer.sending, &done, MPI_STATUS_IGNORE);
    if (done != 0) {
      MPI_Isend(&peer.sent, 1, MPI_CHAR, peer.rank, kBeatTag, communicator_, &peer.sending);
    }
    if (Clock::now() - peer.heard < std::chrono::seconds(kSilenceSeconds)) return;
    ::dprintf(errors_,
              "narrow: %s has not been heard of by %s for %d s: the process or the network is gone "
              "(the same command continues from the last saved layer, with any number of ranks)\n",
              ranks_.Name(peer.rank).c_str(), ranks_.Name(ranks_.rank()).c_str(), kSilenceSeconds);
    std::this_thread::sleep_for(kBeat);  // for mpirun to pass the line on
    AbortMpi(static_cast<int>(ErrorCode::kIo));
  }

  const Ranks& ranks_;
  std::mutex& mpi_;
  const int errors_ = ::dup(STDERR_FILENO);  // as it is now, whatever becomes of it later
  MPI_Comm communicator_ = MPI_COMM_NULL;
  std::vector<Peer> peers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

class MpiRanks final : public Ranks {
 public:
  MpiRanks() : Ranks(WorldRank(), HostNames(WorldSize())), heartbeat_(*this, mpi_) {}

 private:
  void DoBroadcast(std::span<std::byte> bytes, int root) override {
    InPieces(bytes, [&](std::span<std::byte> piece, MPI_Request* request) {
      MPI_Ibcast(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, root, MPI_COMM_WORLD,
                 request);
    });
  }

  void DoTransfer(std::span<std::byte> bytes, int from, int to) override {
    InPieces(bytes, [&](std::span<std::byte> piece, MPI_Request* request) {
      const int size = static_cast<int>(piece.size());
      if (rank() == from) {
        MPI_Isend(piece.data(), size, MPI_BYTE, to, 0, MPI_COMM_WORLD, request);
      } else {
        MPI_Irecv(piece.data(), size, MPI_BYTE, from, 0, MPI_COMM_WORLD, request);
      }
    });
  }

  template <typename Begin>
  void InPieces(std::span<std::byte> bytes, const Begin& begin) {
    while (!bytes.empty()) {
      const std::size_t size = std::min<std::size_t>(bytes.size(), kPieceBytes);
      MPI_Request request = MPI_REQUEST_NULL;
      {
        const std::lock_guard lock(mpi_);
        begin(bytes.first(size), &request);
      }
      Wait(request);
      bytes = bytes.subspan(size);
    }
  }

  // MPI's own waiting spins: it would take the core of a rank that computes.
  void Wait(MPI_Request& request) {
    const auto start = Clock::now();
    auto pause = std::chrono::duration_cast<Clock::duration>(kShortestPause);
    while (true) {
      int done = 0;
      {
        const std::lock_guard lock(mpi_);
        MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      }
      if (done != 0) return;
      if (Clock::now() - start < kSpinning) {
        std::this_thread::yield();
        continue;
      }
      std::this_thread::sleep_for(pause);
      pause = std::min<Clock::duration>(pause * 5 / 4, kLongestPause);
    }
  }

  std::mutex mpi_;
  Heartbeat heartbeat_;
};

}  // namespace

std::unique_ptr<Ranks> StartMpi(int& argc, char**& argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  if (provided < MPI_THREAD_SERIALIZED) {
    Fail(ErrorCode::kUnsupported,
         "this MPI cannot be called by more than one thread (MPI_THREAD_SERIALIZED); use another "
         "build of it");
  }
  return std::make_unique<MpiRanks>();
}

void FinishMpi() { MPI_Finalize(); }

void AbortMpi(int status) {
  ::alarm(5);  // where MPI cannot reach what it wants to tell
  MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

}  // namespace narrow
