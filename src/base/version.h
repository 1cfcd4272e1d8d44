#pragma once

namespace narrow {

// As CMakeLists.txt states it; a test compares the two.
inline constexpr const char* kVersion = "0.1.0";

}  // namespace narrow
