// Rows of a batch that belong together.
#pragma once

#include <cstdint>

namespace narrow {

// Rows [first, first + count) of a batch are one text; texts do not see each other.
struct Sequence {
  int64_t first = 0;
  int64_t count = 0;
};

}  // namespace narrow
