// The element types a checkpoint can hold: one table, read in both directions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace narrow {

// Element types of the safetensors format.
// Source: safetensors 0.5, enum Dtype of the reference implementation.
enum class Dtype : uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF8E5M2,
  kF8E4M3,  // E4M3FN: no infinity, NaN 0x7F and 0xFF, largest finite 448
  kF16,
  kBF16,
  kF32,
  kF64,
};

struct DtypeInfo {
  Dtype dtype;
  std::string_view name;  // as in a safetensors header
  int64_t bytes;          // of one element
  bool floating;
};

const DtypeInfo& Info(Dtype dtype);
inline int64_t ElementBytes(Dtype dtype) { return Info(dtype).bytes; }
inline std::string_view Name(Dtype dtype) { return Info(dtype).name; }

// The type with this safetensors name, if there is one.
std::optional<Dtype> DtypeFromName(std::string_view name);

}  // namespace narrow
