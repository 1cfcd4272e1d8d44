#include "base/error.h"

namespace narrow {

void FailCheck(const char* condition, const char* file, int line) {
  Fail(ErrorCode::kInternal, "internal check failed: {} ({}:{}); please report this", condition,
       file, line);
}

}  // namespace narrow
