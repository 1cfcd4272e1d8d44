// Calibration: the largest magnitudes one layer sees.
#pragma once

#include <array>
#include <atomic>
#include <string>

#include "model/decoder_layer.h"
#include "model/roles.h"

namespace narrow {

struct LayerRanges {
  std::array<float, kLinearGroupCount> inputs = {};  // by LinearGroup
  float keys = 0.0f;                                 // after the rotation
  float values = 0.0f;

  float Input(LinearGroup group) const { return inputs[static_cast<std::size_t>(group)]; }
};

// Running absolute maximum of everything a layer's quantizers will see. Thread-safe; the result
// does not depend on the order of calls.
template <typename T>
class RangeRecorder final : public LayerObserver<T> {
 public:
  void OnInput(LinearGroup group, int64_t first_row, MatrixView<const T> rows) override;
  void OnKeys(std::span<const T> keys) override;
  void OnValues(std::span<const T> values) override;

  // Throws: kNumeric naming the module whose input or output was NaN or infinite.
  LayerRanges Ranges(const LayerSpec& spec) const;

 private:
  class Maximum {
   public:
    void Include(std::span<const T> values);
    float Value(const std::string& what) const;

   private:
    std::atomic<float> amax_ = 0.0f;
    std::atomic<bool> finite_ = true;
  };

  std::array<Maximum, kLinearGroupCount> inputs_;
  Maximum keys_;
  Maximum values_;
};

}  // namespace narrow
