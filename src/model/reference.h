// For tests: the references of tests/golden, which tools/goldens/make_references.py makes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "tests/build_paths.h"

namespace narrow {

// A file of tests/golden, read.
inline Json ReadReference(std::string_view name) {
  return ReadJsonFile(NARROW_SOURCE_DIR "/tests/golden/" + std::string(name));
}

inline std::vector<float> Floats(const Json& numbers) { return numbers.get<std::vector<float>>(); }

}  // namespace narrow
