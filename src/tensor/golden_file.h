// For tests: reads the reference files of $NARROW_SHARED_DIR/golden.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/build_paths.h"

namespace narrow {

// The elements of a little-endian file, or none where the reference files are absent.
template <typename T>
std::vector<T> ReadGolden(const std::string& name) {
  const char* set = std::getenv("NARROW_SHARED_DIR");
  const std::string directory = set != nullptr ? set : NARROW_SOURCE_DIR "/../shared";
  std::ifstream file(directory + "/golden/" + name, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace narrow
