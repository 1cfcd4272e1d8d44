#include "kernels/finite.h"

#include <cstdint>

#include "kernels/float8.h"

namespace narrow {
namespace {

template <typename T>
std::span<const T> As(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// No element has all bits of `mask`. Without an early exit, so that it becomes a vector loop.
template <typename T>
bool NoneHas(T mask, std::span<const std::byte> bytes) {
  T found = 0;
  for (const T bits : As<T>(bytes)) found |= static_cast<T>((bits & mask) == mask);
  return found == 0;
}

}  // namespace

bool AllFinite(Dtype dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case Dtype::kF8E4M3:
      return NoneHas<uint8_t>(0x7F, bytes);
    case Dtype::kF8E5M2:
      return NoneHas<uint8_t>(0x7C, bytes);
    case Dtype::kF16:
      return FindAbsoluteMaximum(As<Float16>(bytes)).finite;
    case Dtype::kBF16:
      return FindAbsoluteMaximum(As<Bfloat16>(bytes)).finite;
    case Dtype::kF32:
      return FindAbsoluteMaximum(As<float>(bytes)).finite;
    case Dtype::kF64:
      return NoneHas<uint64_t>(uint64_t{0x7FF} << 52, bytes);
    default:
      return true;
  }
}

}  // namespace narrow
