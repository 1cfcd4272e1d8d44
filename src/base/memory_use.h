// Memory of this process as the kernel counts it.
#pragma once

#include <cstdint>

namespace narrow {

// Largest resident set since the process started, in bytes (ru_maxrss).
int64_t PeakResidentBytes();

// Resident set now, in bytes; 0 where the kernel does not say.
int64_t CurrentResidentBytes();

// Memory a new process could take without swapping: what the machine has available, or what the
// process's control group still allows if that is less. In bytes.
int64_t AvailableMemoryBytes();

}  // namespace narrow
