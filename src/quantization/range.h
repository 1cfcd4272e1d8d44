// Ranges of weights and activations: the running absolute maximum.
#pragma once

#include <algorithm>

#include "kernels/float8.h"

namespace narrow {

// Merges two parts of one tensor. Commutative and associative, so the result does not depend on how
// the tensor was split.
inline AbsoluteMaximum Merge(const AbsoluteMaximum& a, const AbsoluteMaximum& b) {
  return {std::max(a.amax, b.amax), a.finite && b.finite};
}

}  // namespace narrow
