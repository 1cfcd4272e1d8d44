// The table of export formats: how a quantized checkpoint is named and described for the program
// that will load it. A new format is a folder in formats/ and a row in registry.cc.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "formats/description.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace narrow {

// The tensors that stand for one quantized linear (its bias, if any, is kept as it is).
struct LinearTensors {
  TensorSpec weight;        // F8_E4M3 [out, in]
  TensorSpec weight_scale;  // F32 [], multiply to dequantize
  TensorSpec input_scale;   // F32 [], multiply to dequantize
};

// The scales of one attention module whose cache is quantized: F32 [], multiply to dequantize. That
// of queries counts where attention is computed in FP8.
struct AttentionScaleTensors {
  TensorSpec query_scale;
  TensorSpec key_scale;
  TensorSpec value_scale;
};

struct ExportFormat {
  std::string_view name;     // value of --custom_mode
  std::string_view summary;  // one line of help
  // The "quantization_config" member of config.json.
  Json (*quantization_config)(const QuantizedCheckpointDescription& description);
  LinearTensors (*linear_tensors)(const QuantizedLinear& linear);
  AttentionScaleTensors (*attention_scale_tensors)(const AttentionModule& attention);
  // Whose names the scales of attention go by.
  enum class CacheScales { kOfAttention, kOfProjections } cache_scales = CacheScales::kOfAttention;
};

inline constexpr std::string_view kDefaultExportFormat = "fp8";

std::span<const ExportFormat> ExportFormats();
// Throws: kUnsupported for "awq", kInvalidArgument for a name nobody knows; both name the known
// ones.
const ExportFormat& FindExportFormat(std::string_view name);

}  // namespace narrow
