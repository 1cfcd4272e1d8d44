// Which types the operands of products may have on this machine.
#pragma once

#include "tensor/compute_type.h"

namespace narrow {

// Whether there are products of such operands at all: oneDNN 2.6 multiplies bf16 with AVX-512
// alone.
bool HasProducts(ComputeType type);

}  // namespace narrow
