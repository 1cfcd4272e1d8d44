// Memory of this process as the kernel counts it.
#pragma once

#include <cstdint>

namespace narrow {

// Largest resident set since the process started, in bytes (ru_maxrss).
int64_t PeakResidentBytes();

}  // namespace narrow
