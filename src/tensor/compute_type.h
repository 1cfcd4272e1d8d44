// The element type that products are computed in.
#pragma once

#include <cstdint>

namespace narrow {

// Element type of the operands; products are accumulated in f32 either way.
enum class ComputeType { kBfloat16, kFloat32 };
constexpr int64_t OperandBytes(ComputeType compute) {
  return compute == ComputeType::kBfloat16 ? 2 : 4;
}

}  // namespace narrow
