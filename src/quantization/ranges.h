// Ranges: the largest magnitudes one layer sees.
#pragma once

#include <array>
#include <mutex>
#include <string>
#include <vector>

#include "model/roles.h"
#include "tensor/tensor.h"

namespace narrow {

// Largest magnitude of every channel.
struct LayerRanges {
  std::array<std::vector<float>, kLinearGroupCount> inputs;  // by LinearGroup
  std::vector<float> queries;                                // after the rotation
  std::vector<float> keys;                                   // likewise
  std::vector<float> values;

  const std::vector<float>& Input(LinearGroup group) const {
    return inputs[static_cast<std::size_t>(group)];
  }
};

// The largest of a tensor's channels.
float LargestOf(const std::vector<float>& maxima);

// Running absolute maximum of every channel of a tensor. Thread-safe; the result does not depend on
// the order of calls.
class ChannelMaxima {
 public:
  void Reset(int64_t channels) { values_.assign(static_cast<std::size_t>(channels), 0.0f); }
  template <typename T>  // float or Bfloat16
  void Include(MatrixView<const T> rows);
  // Throws: kNumeric naming `what` where it was NaN or infinite.
  const std::vector<float>& Values(const std::string& what) const;

 private:
  std::mutex mutex_;
  std::vector<float> values_;
};

}  // namespace narrow
