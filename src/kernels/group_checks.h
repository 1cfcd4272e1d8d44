// What the loops over groups of columns require of their callers.
#pragma once

#include <cstdint>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/group_codes.h"

namespace narrow {

inline bool HoldsGroups(int64_t columns, int64_t group, std::size_t count) {
  return group > 0 && static_cast<int64_t>(count) >= DivideRoundUp(columns, group) &&
         (group >= columns || group % 16 == 0);
}
inline void CheckByteCodes(int64_t columns, const GroupScales& scales, std::size_t codes) {
  NARROW_CHECK(HoldsGroups(columns, scales.group, scales.scales.size()));
  NARROW_CHECK(static_cast<int64_t>(codes) == columns);
}
inline void CheckNibbleCodes(int64_t columns, const GroupScales& scales, std::size_t codes) {
  NARROW_CHECK(HoldsGroups(columns, scales.group, scales.scales.size()));
  // A step is 32 columns where groups are whole steps, else 16.
  NARROW_CHECK(scales.group % 16 == 0 && columns % (scales.group % 32 == 0 ? 32 : 16) == 0);
  NARROW_CHECK(static_cast<int64_t>(codes) * 2 == columns);
}

}  // namespace narrow
