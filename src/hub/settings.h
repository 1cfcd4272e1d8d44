// How the hub is reached and where its cache lies, from the variables that huggingface_hub knows.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

namespace narrow {

// The variables are those of huggingface_hub 2.4 (constants.py, utils/_auth.py).
struct HubSettings {
  std::string endpoint;              // $HF_ENDPOINT without a slash at the end, else the public hub
  std::optional<std::string> token;  // a secret: never part of a message, a report or a file
  std::filesystem::path cache;       // $HF_HUB_CACHE, else "hub" in $HF_HOME
  bool offline = false;              // $HF_HUB_OFFLINE
  int connections = 4;               // at the same time, for ranges of one file
  std::chrono::milliseconds stall{10'000};    // without a byte; $HF_HUB_DOWNLOAD_TIMEOUT in seconds
  int attempts = 6;                           // of a request that brings nothing new
  std::chrono::milliseconds first_wait{500};  // before the second attempt; doubles from there
};

// Throws: kInvalidArgument for an endpoint that is no address and a token with characters that no
// header can hold; kNotFound when no variable says where the cache is.
HubSettings HubSettingsFromEnvironment();

}  // namespace narrow
