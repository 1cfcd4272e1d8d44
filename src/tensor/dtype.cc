#include "tensor/dtype.h"

#include <array>

namespace narrow {
namespace {

constexpr std::array<DtypeInfo, 15> kTable = {{
    {Dtype::kBool, "BOOL", 1, false},
    {Dtype::kU8, "U8", 1, false},
    {Dtype::kI8, "I8", 1, false},
    {Dtype::kU16, "U16", 2, false},
    {Dtype::kI16, "I16", 2, false},
    {Dtype::kU32, "U32", 4, false},
    {Dtype::kI32, "I32", 4, false},
    {Dtype::kU64, "U64", 8, false},
    {Dtype::kI64, "I64", 8, false},
    {Dtype::kF8E5M2, "F8_E5M2", 1, true},
    {Dtype::kF8E4M3, "F8_E4M3", 1, true},
    {Dtype::kF16, "F16", 2, true},
    {Dtype::kBF16, "BF16", 2, true},
    {Dtype::kF32, "F32", 4, true},
    {Dtype::kF64, "F64", 8, true},
}};

constexpr bool InEnumOrder() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (kTable[i].dtype != static_cast<Dtype>(i)) return false;
  }
  return true;
}
static_assert(InEnumOrder());
static_assert(kTable.size() == static_cast<std::size_t>(Dtype::kF64) + 1);

}  // namespace

const DtypeInfo& Info(Dtype dtype) { return kTable[static_cast<std::size_t>(dtype)]; }

std::optional<Dtype> DtypeFromName(std::string_view name) {
  for (const DtypeInfo& info : kTable) {
    if (info.name == name) return info.dtype;
  }
  return std::nullopt;
}

}  // namespace narrow
