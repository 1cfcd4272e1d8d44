// Numbers as a person would write them.
#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <string>

namespace narrow {

// Metadata holds f32: 1e-5 comes as 9.99999974e-06. Gives the shortest decimal of the f32; a number
// that is no f32 stays.
inline double ShortestDecimal(double value) {
  const auto narrowed = static_cast<float>(value);
  if (static_cast<double>(narrowed) != value) return value;
  return std::strtod(fmt::format("{}", narrowed).c_str(), nullptr);
}

}  // namespace narrow
