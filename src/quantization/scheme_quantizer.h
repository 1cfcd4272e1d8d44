// Quantizing a group of linears by a scheme that is data, whatever its codes, blocks and scales.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/compensation/factor.h"
#include "formats/scheme_format.h"
#include "model/loaded_layer.h"
#include "schemes/tensor_scheme.h"

namespace narrow {

// Takes bytes of what a quantized linear becomes: of one of its tensors, from `offset`.
using PartSink = std::function<void(const LinearSpec& linear, LinearPart part, int64_t offset,
                                    std::span<const std::byte> bytes)>;

// The schemes of a job.
struct SchemeAssignment {
  const SchemeFormat* format = nullptr;
  std::map<std::string, LinearScheme> of_modules;  // the others stay as they are
  bool exact_quotient = false;
};

// The input's rule and what of its scales is in the checkpoint: rounded to the type of the weights,
// as the tools keep it.
LinearInput CalibratedInput(const LinearScheme& scheme, const SchemeFormat& format, Dtype type,
                            float amax);

// How a group is quantized.
struct SchemeWork {
  LinearScheme scheme;
  const SchemeFormat* format = nullptr;
  bool exact_quotient = false;
  float input_amax = 0.0f;  // over the calibration texts
  // Null: to nearest.
  const CompensationFactor* factor = nullptr;
  // What an error of each column counts; scales of codes of 4 bits are then those of the least
  // error among some. Empty: scales are those of the range.
  std::span<const float> column_weights;
};

// What became of one linear.
struct SchemeFacts {
  std::string module;
  float weight_amax = 0.0f;
  float weight_scale = 0.0f;  // 0: it has several
  float input_scale = 0.0f;   // 0: made while serving, or none; of two levels 1 / the global one
  int64_t elements = 0;
  double output_error = 0.0, nearest_output_error = 0.0;  // as CompensatedRounding; with a factor
};

// Memory that takes beside the rewriting of a layer: rows as they are stored, their codes and
// scales.
int64_t SchemeRewritingBytes(const LayerSpec& spec);

// Rewrites the group's weights as numbers of the scheme, which it runs with from now on, and hands
// its tensors to `sink` (may be empty): codes, scales and zero points as rows are finished, the
// rest at the end. Where nothing is compensated and no scale is searched, the bytes are those of
// WeightEncoder. Throws: kNumeric as WeightEncoder::Encode. REQUIRES: the scheme takes the sizes of
// the linears; blocks of rows do not straddle linears.
std::vector<SchemeFacts> QuantizeByScheme(LoadedLayer& layer, LinearGroup group,
                                          const SchemeWork& work, const PartSink& sink);

}  // namespace narrow
