// Where the tests find golden data and real models; tests that miss theirs are skipped by name.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace narrow {

// A file or folder of the shared data, or an empty string when it is not there.
inline std::string SharedPath(const std::string& name) {
  const char* directory = std::getenv("NARROW_SHARED_DIR");
  const std::filesystem::path base =
      directory != nullptr ? directory : NARROW_SOURCE_DIR "/../shared";
  const std::filesystem::path path = base / name;
  return std::filesystem::exists(path) ? path.string() : "";
}

// The imported SmolLM2 checkpoint, or an empty string.
inline std::string SmolLm2Path() {
  const char* directory = std::getenv("NARROW_SMOLLM2_DIR");
  const std::filesystem::path path =
      directory != nullptr ? directory : NARROW_BINARY_DIR "/models/SmolLM2-135M-Instruct";
  return std::filesystem::exists(path / "config.json") ? path.string() : "";
}

}  // namespace narrow
