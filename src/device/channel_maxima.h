// Running maxima of what a forward step shows.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "device/operands.h"

namespace narrow {

// Running absolute maximum of every channel of a tensor. Thread-safe; the result does not depend on
// the order of calls.
class ChannelMaxima {
 public:
  void Reset(int64_t channels) { values_.assign(static_cast<std::size_t>(channels), 0.0f); }
  void Include(ConstOperands rows);
  // The maxima become those of all ranks of the job.
  void Share();
  // Throws: kNumeric naming `what` where it was NaN or infinite.
  const std::vector<float>& Values(const std::string& what) const;

 private:
  std::mutex mutex_;
  std::vector<float> values_;
};

}  // namespace narrow
