#include "base/socket_ranks.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

// Sockets of one rank: [i] leads to rank i; -1 at its own place.
using Sockets = std::vector<int>;

class SocketRanks final : public Ranks {
 public:
  SocketRanks(int rank, std::vector<std::string> hosts, Sockets sockets)
      : Ranks(rank, std::move(hosts)), sockets_(std::move(sockets)) {}
  ~SocketRanks() override {
    for (const int socket : sockets_) {
      if (socket >= 0) ::close(socket);
    }
  }
  SocketRanks(const SocketRanks&) = delete;
  SocketRanks& operator=(const SocketRanks&) = delete;

 private:
  void DoBroadcast(std::span<std::byte> bytes, int root) override {
    for (int other = 0; other < count(); ++other) {
      if (other != root) DoTransfer(bytes, root, other);
    }
  }

  void DoTransfer(std::span<std::byte> bytes, int from, int to) override {
    if (rank() != from && rank() != to) return;
    const int peer = rank() == from ? to : from;
    const int socket = sockets_[static_cast<std::size_t>(peer)];
    while (!bytes.empty()) {
      const ssize_t moved = rank() == from
                                ? ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL)
                                : ::recv(socket, bytes.data(), bytes.size(), 0);
      if (moved < 0 && errno == EINTR) continue;
      if (moved <= 0) Fail(ErrorCode::kIo, "{} has ended", Name(peer));
      bytes = bytes.subspan(static_cast<std::size_t>(moved));
    }
  }

  int GoneRank() override {
    for (int other = 0; other < count(); ++other) {
      std::byte next{};
      const int socket = sockets_[static_cast<std::size_t>(other)];
      if (other != rank() && ::recv(socket, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0) return other;
    }
    return -1;
  }

  Sockets sockets_;
};

std::vector<Sockets> ConnectAll(int count) {
  std::vector<Sockets> all(static_cast<std::size_t>(count),
                           Sockets(static_cast<std::size_t>(count), -1));
  for (std::size_t a = 0; a < all.size(); ++a) {
    for (std::size_t b = a + 1; b < all.size(); ++b) {
      std::array<int, 2> pair = {};
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        Fail(ErrorCode::kIo, "no pair of sockets for ranks {} and {}", a, b);
      }
      all[a][b] = pair[0];
      all[b][a] = pair[1];
    }
  }
  return all;
}

void CloseAll(const std::vector<Sockets>& all, int but) {
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (static_cast<int>(rank) == but) continue;
    for (const int socket : all[rank]) {
      if (socket >= 0) ::close(socket);
    }
  }
}

constexpr std::string_view kDone = "done";

// What a rank says goes through `report` and ends with it.
void RunRank(const std::function<void()>& work, int report) noexcept {
  std::string said(kDone);
  try {
    JobRanks().ShareHost();
    work();
  } catch (const std::exception& error) {
    said = error.what();
  }
  SetJobRanks(nullptr);  // the others see the sockets closed
  static_cast<void>(!::write(report, said.data(), said.size()));
  ::close(report);
}

std::string ReadAll(int file) {
  std::string text;
  std::array<char, 4096> part = {};
  for (ssize_t got = 0; (got = ::read(file, part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  ::close(file);
  return text;
}

}  // namespace

bool RunOnRanks(int count, const std::function<void()>& work, std::vector<std::string>& errors,
                std::vector<std::string> hosts) {
  if (hosts.empty()) hosts.assign(static_cast<std::size_t>(count), "localhost");
  std::vector<Sockets> sockets = ConnectAll(count);
  std::vector<pid_t> processes;
  std::vector<int> reports;
  for (int rank = 0; rank < count; ++rank) {
    std::array<int, 2> pipe = {};
    if (::pipe(pipe.data()) != 0) Fail(ErrorCode::kIo, "no pipe for rank {}", rank);
    const pid_t process = ::fork();
    if (process < 0) Fail(ErrorCode::kIo, "no process for rank {}", rank);
    if (process == 0) {
      CloseAll(sockets, rank);
      ::close(pipe[0]);
      SetJobRanks(
          std::make_unique<SocketRanks>(rank, hosts, sockets[static_cast<std::size_t>(rank)]));
      RunRank(work, pipe[1]);
      ::kill(::getpid(), SIGKILL);  // nothing of the parent's is to be ended or written twice
    }
    ::close(pipe[1]);
    processes.push_back(process);
    reports.push_back(pipe[0]);
  }
  CloseAll(sockets, -1);
  errors.clear();
  bool good = true;
  for (const int report : reports) {
    std::string said = ReadAll(report);
    const bool done = said == kDone;
    good = good && done;
    if (said.empty()) said = "killed";
    errors.push_back(done ? "" : std::move(said));
  }
  for (const pid_t process : processes) ::waitpid(process, nullptr, 0);
  return good;
}

}  // namespace narrow
