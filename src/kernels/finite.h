// Whether stored numbers are numbers.
#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace narrow {

// True when no element is NaN or infinite: codes 0x7F and 0xFF of E4M3FN, all exponent bits of the
// other floating types. Integers always are numbers. Runs on the calling thread, as fast as memory.
// REQUIRES: `bytes` holds whole elements and is aligned for them.
bool AllFinite(Dtype dtype, std::span<const std::byte> bytes);

}  // namespace narrow
