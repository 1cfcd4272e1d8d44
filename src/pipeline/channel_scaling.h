// Scaling of the channels of K and V, so that they sit well on the grid of FP8 in the cache. K is
// scaled by the rows of k_proj and scaled back by those of q_proj, V by the rows of v_proj and the
// columns of o_proj: the unquantized network stays the same function, and the checkpoint the same
// format.
#pragma once

#include <optional>
#include <vector>

#include "model/config.h"
#include "pipeline/range_recorder.h"
#include "quantization/channel_scaling/grid_errors.h"

namespace narrow {

enum class ChannelScaling {
  kNone,
  kKeysAndValues,  // by less than a power of two, to where E4M3 rounds with the least error
};

// What calibration sums up for the choice. Absent where nothing is to be chosen.
struct LayerGridErrors {
  std::optional<GridErrors> keys;  // after the rotation
  std::optional<GridErrors> values;
  std::optional<GridErrors> attended;  // the input of o_proj
};

// Factors that values are multiplied by, channel by channel; empty where nothing is scaled.
struct LayerScaling {
  std::vector<float> keys;    // [key-value width], the same for both channels of a rotation
  std::vector<float> values;  // [key-value width]

  // By what the columns of a group are divided; empty for 1.
  std::vector<float> Columns(LinearGroup group, const DecoderConfig& config) const;
  // By what the rows of a linear are multiplied; empty for 1.
  std::vector<float> Rows(WeightRole role, const DecoderConfig& config) const;
};

// Factors 2^(-1/2) <= f < 2^(1/2) with the least rounding error over the calibration texts.
LayerScaling ChooseScaling(const DecoderConfig& config, const LayerGridErrors& errors);

// The ranges of the scaled values.
LayerRanges ScaleRanges(const LayerRanges& ranges, const LayerScaling& scaling,
                        const DecoderConfig& config);

}  // namespace narrow
