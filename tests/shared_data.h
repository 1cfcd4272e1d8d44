// Where the tests find golden data and real models; tests that miss theirs are skipped by name.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/build_paths.h"

namespace narrow {

// A file or folder of the shared data, or an empty string when it is not there.
inline std::string SharedPath(const std::string& name) {
  const char* directory = std::getenv("NARROW_SHARED_DIR");
  const std::filesystem::path base =
      directory != nullptr ? directory : NARROW_SOURCE_DIR "/../shared";
  const std::filesystem::path path = base / name;
  return std::filesystem::exists(path) ? path.string() : "";
}

// An imported checkpoint: in the directory that `variable` names, or where the demo puts it. An
// empty string when it is not there.
inline std::string RealModelPath(const char* variable, const std::string& name) {
  const char* directory = std::getenv(variable);
  const std::filesystem::path path =
      directory != nullptr ? std::filesystem::path(directory)
                           : NARROW_BINARY_DIR "/models" / std::filesystem::path(name);
  return std::filesystem::exists(path / "config.json") ? path.string() : "";
}
inline std::string SmolLm2Path() {
  return RealModelPath("NARROW_SMOLLM2_DIR", "SmolLM2-135M-Instruct");
}
inline std::string Gemma3Path() { return RealModelPath("NARROW_GEMMA3_DIR", "gemma-3-270m"); }

}  // namespace narrow
