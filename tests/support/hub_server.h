// The tests' own hub on the loopback address: tests/support/hub_server.py as a child process.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hub/settings.h"
#include "io/json.h"
#include "tests/support/command.h"

namespace narrow {

// Repositories, faults, and a server once it is started. A process of its own, which ends with the
// object.
class HubServer {
 public:
  // Whether there is a Python to run it: else the test is skipped, by name.
  static bool Available();

  // A file of a repository: "models/org/name/revision/path".
  void Put(const std::string& path, std::string_view contents) const;
  std::filesystem::path root() const { return scratch_.path(); }
  // Adds a fault; hub_server.py says what there is. Before Start().
  void AddFault(Json fault) { faults_.push_back(std::move(fault)); }

  // From the next Start() on the hub speaks https, with a certificate for these names that is its
  // own authority. Returns the path of the certificate. Needs the program openssl.
  std::filesystem::path UseTls(const std::string& names = "IP:127.0.0.1,DNS:localhost");

  void Start();
  void Stop() { process_.reset(); }
  std::string endpoint() const;        // "http://127.0.0.1:PORT", or with https
  std::string plain_endpoint() const;  // the same hub by http
  // The requests so far.
  std::vector<Json> Log() const;
  void ClearLog() const { std::filesystem::remove(root() / "log"); }

  // Settings for the client with short waits, a token, and a cache in `cache`.
  HubSettings Settings(const std::filesystem::path& cache) const;
  // The same as variables of a program.
  CommandOptions Options(const std::filesystem::path& cache) const;

 private:
  ScratchDirectory scratch_;
  Json faults_ = Json::array();
  std::unique_ptr<RunningCommand> process_;
  const char* scheme_ = "http";
  int port_ = 0;
  int plain_port_ = 0;
};

// What a client sends where a token is due.
inline constexpr std::string_view kTestToken = "hf_of_the_tests";

}  // namespace narrow
