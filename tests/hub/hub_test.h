// For tests of the hub's client: a server with one repository, and a cache.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "hub/download.h"
#include "hub/hub_client.h"
#include "tests/support/hub_server.h"
#include "tests/support/tiny_model.h"

namespace narrow {

class HubTest : public testing::Test {
 protected:
  static constexpr const char* kRepository = "org/model";

  void SetUp() override {
    if (!HubServer::Available()) GTEST_SKIP() << "the tests' hub needs /usr/bin/python3";
    PutFile("config.json", "{\"a\": 1}\n");
    PutFile("large.safetensors", Bytes(20'000'000, 1));
  }
  // Of the repository.
  void PutFile(const std::string& path, std::string_view contents, const char* revision = "v1") {
    server_.Put(std::string("models/") + kRepository + "/" + revision + "/" + path, contents);
  }
  // Bytes that look random and are the same everywhere.
  static std::string Bytes(std::size_t count, uint32_t seed) {
    std::string bytes(count, '\0');
    uint32_t state = seed * 2654435761u + 1;
    for (char& byte : bytes) {
      state = state * 1664525u + 1013904223u;
      byte = static_cast<char>(state >> 24);
    }
    return bytes;
  }
  static RepositoryName Name(const std::string& text = kRepository) {
    return ParseRepositoryName(text, RepositoryName::Kind::kModel).value();
  }
  std::filesystem::path cache() const { return scratch_.path() / "cache"; }
  std::filesystem::path blobs() const { return cache() / "models--org--model" / "blobs"; }

  // Lists and fetches everything.
  HubSnapshot Download(const HubSettings& settings, const std::string& name = kRepository) {
    HubSnapshot snapshot(settings, Name(name), HubClient(settings).List(Name(name)));
    std::vector<const HubFile*> files;
    for (const HubFile& file : snapshot.listing().files) files.push_back(&file);
    snapshot.Fetch(files, progress_);
    return snapshot;
  }
  HubSnapshot Download() { return Download(server_.Settings(cache())); }
  void ExpectWhole(const HubSnapshot& snapshot, const char* revision = "v1") {
    const std::filesystem::path source = server_.root() / "models" / kRepository / revision;
    for (const HubFile& file : snapshot.listing().files) {
      EXPECT_TRUE(ReadFile(source / file.path) == ReadFile(snapshot.directory() / file.path))
          << file.path;
    }
  }
  // Requests whose "HOST PATH" contains the text.
  std::vector<Json> Requests(const std::string& text) const {
    std::vector<Json> found;
    for (const Json& entry : server_.Log()) {
      const std::string what =
          entry.at("host").get<std::string>() + " " + entry.at("path").get<std::string>();
      if (what.find(text) != std::string::npos) found.push_back(entry);
    }
    return found;
  }
  // No file has a blob's name, whatever is left of it.
  void ExpectNoBlob(std::string_view but = "") const {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(blobs(), error)) {
      const std::string name = entry.path().filename().string();
      EXPECT_TRUE(name.ends_with(".incomplete") || name == but) << name;
    }
  }

  HubServer server_;
  ScratchDirectory scratch_;
  SilentProgress progress_;
};

}  // namespace narrow
