// Scaling of the channels between the parts of a decoder layer, so that what is rounded to FP8 sits
// well on the grid. A factor in front of a quantizer is undone behind it: in the norm and the
// columns of the linears that read it, or in the rows of one linear and the columns of the next.
// The unquantized network stays the same function, and the checkpoint the same format.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "model/config.h"
#include "pipeline/range_recorder.h"
#include "quantization/channel_scaling/grid_errors.h"

namespace narrow {

enum class ChannelScaling {
  kNone,
  kGrid,  // each channel by less than a power of two, to where E4M3 rounds it with the least error
};

// What calibration sums up for the choice. Absent where nothing is to be chosen.
struct LayerGridErrors {
  std::array<std::optional<GridErrors>, kLinearGroupCount> inputs;
  std::optional<GridErrors> keys;  // after the rotation
  std::optional<GridErrors> values;
};

// Factors that values are multiplied by, channel by channel; empty where nothing is scaled.
struct LayerScaling {
  std::vector<float> attention_input;  // [hidden], by the attention norm
  std::vector<float> keys;        // [key-value width], the same for both channels of a rotation
  std::vector<float> values;      // [key-value width]
  std::vector<float> mlp_input;   // [hidden], by the MLP norm
  std::vector<float> activation;  // [intermediate], by the rows of up_proj

  // By what the columns of a group are divided; empty for 1.
  std::vector<float> Columns(LinearGroup group, const DecoderConfig& config) const;
  // By what the rows of a linear are multiplied; empty for 1.
  std::vector<float> Rows(WeightRole role, const DecoderConfig& config) const;
};

// Which of the places between quantizers may be scaled. Both sides of a place must be quantized,
// and rows with biases stay as they are.
struct ScalingPlaces {
  bool attention_norm = true;
  bool keys = true;
  bool values = true;
  bool mlp_norm = true;
  bool activation = true;
};

// Factors 2^(-1/2) <= f < 2^(1/2) with the least rounding error over the calibration texts.
// Source of the error measure: OCP OFP8 1.0, E4M3.
LayerScaling ChooseScaling(const DecoderConfig& config, const LayerGridErrors& errors,
                           const ScalingPlaces& places);

// The ranges of the scaled values.
LayerRanges ScaleRanges(const LayerRanges& ranges, const LayerScaling& scaling,
                        const DecoderConfig& config);

}  // namespace narrow
