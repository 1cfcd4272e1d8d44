#include "tests/support/hub_server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

constexpr const char* kPython = "/usr/bin/python3";

}  // namespace

bool HubServer::Available() { return ::access(kPython, X_OK) == 0; }

void HubServer::Put(const std::string& path, std::string_view contents) const {
  std::filesystem::create_directories((root() / path).parent_path());
  WriteFile(root() / path, contents);
}

void HubServer::Start() {
  if (!faults_.empty()) WriteFile(root() / "faults.json", faults_.dump());
  process_.reset();
  std::filesystem::remove(root() / "address");
  process_ = std::make_unique<RunningCommand>(
      std::vector<std::string>{kPython, NARROW_HUB_SERVER, root(), std::to_string(::getpid())});
  for (int i = 0; i < 2000 && !std::filesystem::exists(root() / "address"); ++i) {
    if (process_->Ended()) throw std::runtime_error(process_->Wait().error);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  int cdn = 0;
  std::ifstream(root() / "address") >> port_ >> cdn >> plain_port_;
}

std::filesystem::path HubServer::UseTls(const std::string& names) {
  const std::filesystem::path key = root() / "key.pem";
  std::filesystem::path certificate = root() / "certificate.pem";
  const CommandResult made = RunCommand(
      {"/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
       "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=hub of the tests",
       "-addext", "subjectAltName=" + names, "-keyout", key, "-out", certificate});
  if (made.status != 0) throw std::runtime_error(made.error);
  WriteFile(root() / "tls.pem", ReadFile(key) + ReadFile(certificate));
  scheme_ = "https";
  return certificate;
}

std::string HubServer::endpoint() const { return fmt::format("{}://127.0.0.1:{}", scheme_, port_); }

std::string HubServer::plain_endpoint() const {
  return fmt::format("http://127.0.0.1:{}", plain_port_);
}

std::vector<Json> HubServer::Log() const {
  std::vector<Json> log;
  std::ifstream file(root() / "log");
  for (std::string line; std::getline(file, line);) log.push_back(Json::parse(line));
  return log;
}

HubSettings HubServer::Settings(const std::filesystem::path& cache) const {
  HubSettings settings;
  settings.endpoint = endpoint();
  settings.cache = cache;
  settings.token = kTestToken;
  settings.first_wait = std::chrono::milliseconds(5);
  settings.stall = std::chrono::seconds(1);
  return settings;
}

CommandOptions HubServer::Options(const std::filesystem::path& cache) const {
  CommandOptions options;
  options.environment = {{"HF_ENDPOINT", endpoint()},
                         {"HF_HUB_CACHE", cache},
                         {"HF_TOKEN", std::string(kTestToken)},
                         {"HF_HUB_OFFLINE", ""},
                         {"TRANSFORMERS_OFFLINE", ""},
                         {"HF_HUB_DOWNLOAD_TIMEOUT", "2"},
                         {"no_proxy", "*"}};
  return options;
}

}  // namespace narrow
