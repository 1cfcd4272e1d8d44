// What scaling each channel of a tensor, within a power of two, does to its rounding error.
#pragma once

#include <cstdint>
#include <span>

#include "device/operands.h"
#include "kernels/grid_error.h"
#include "tensor/tensor.h"

namespace narrow {

// Rounding errors on the E4M3 grid for every channel (column) and every phase of its scale
// (kernels/grid_error.h), summed over rows. Thread-compatible; Add uses all threads, and the sums
// depend neither on their number nor on how rows are split over calls.
class GridErrors {
 public:
  explicit GridErrors(int64_t channels);

  // rows [n, channels].
  // Where the job has several ranks, each sums some of the channels of the same rows.
  void Add(ConstOperands rows);
  // Gives every rank the sums of all channels. Add nothing afterwards.
  void Share();

  int64_t channels() const { return squares_.size() / kGridPhases; }
  // Sum of squared errors.
  double Error(int64_t phase, int64_t channel) const {
    return squares_[phase * channels() + channel];
  }
  // The same without the part that is the same in every row: what is left of the error where
  // adding a constant to a channel changes nothing.
  double Spread(int64_t phase, int64_t channel) const;

  // Memory of the sums, for budgets.
  static int64_t Bytes(int64_t channels);

 private:
  int64_t rows_ = 0;
  AlignedBuffer<float> errors_;   // [kGridPhases, channels]
  AlignedBuffer<float> squares_;  // [kGridPhases, channels]
};

// The phase that stands for a factor of 1.
inline constexpr int64_t kNeutralPhase = kGridPhases / 2;

// The phase with the least error(phase); kNeutralPhase where no phase is better than it.
template <typename Error>
int64_t BestPhase(const Error& error) {
  int64_t best = kNeutralPhase;
  double least = error(best);
  for (int64_t phase = 0; phase < kGridPhases; ++phase) {
    if (error(phase) < least) {
      best = phase;
      least = error(phase);
    }
  }
  return best;
}

}  // namespace narrow
