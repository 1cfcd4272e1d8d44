// Calibration: the largest magnitudes one layer sees.
#pragma once

#include <array>
#include <mutex>
#include <string>
#include <vector>

#include "model/decoder_layer.h"
#include "model/roles.h"

namespace narrow {

// Largest magnitude of every channel.
struct LayerRanges {
  std::array<std::vector<float>, kLinearGroupCount> inputs;  // by LinearGroup
  std::vector<float> keys;                                   // after the rotation
  std::vector<float> values;

  const std::vector<float>& Input(LinearGroup group) const {
    return inputs[static_cast<std::size_t>(group)];
  }
};

// The largest of a tensor's channels.
float LargestOf(const std::vector<float>& maxima);

// Running absolute maximum of everything a layer's quantizers will see. Thread-safe; the result
// does not depend on the order of calls.
template <typename T>
class RangeRecorder final : public LayerObserver<T> {
 public:
  explicit RangeRecorder(const LayerSpec& spec);

  void OnInput(LinearGroup group, int64_t first_row, MatrixView<const T> rows) override;
  void OnQueries(int64_t, MatrixView<const T>) override {}
  void OnKeys(int64_t first_row, MatrixView<const T> rows) override;
  void OnValues(int64_t first_row, MatrixView<const T> rows) override;

  // Throws: kNumeric naming the module whose input or output was NaN or infinite.
  LayerRanges Ranges(const LayerSpec& spec) const;

 private:
  class Maxima {
   public:
    void Reset(int64_t channels) { values_.assign(static_cast<std::size_t>(channels), 0.0f); }
    void Include(MatrixView<const T> rows);
    const std::vector<float>& Values(const std::string& what) const;

   private:
    std::mutex mutex_;
    std::vector<float> values_;
  };

  std::array<Maxima, kLinearGroupCount> inputs_;
  Maxima keys_;
  Maxima values_;
};

}  // namespace narrow
