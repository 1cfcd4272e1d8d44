// From ranges to scales, and from weights to codes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/loaded_layer.h"
#include "quantization/calibration.h"
#include "quantization/layer_probe.h"
#include "quantization/scheme.h"
#include "quantization/scheme_quantizer.h"
#include "quantization/weight_scales.h"

namespace narrow {

enum class CacheScheme { kNone, kFp8 };

// How a weight finds its code.
enum class RoundingAlgorithm {
  kNearest,      // --quant_algo none
  kCompensated,  // --quant_algo gptq: later columns make up for the rounding errors of earlier ones
};

struct LayerQuantizationOptions {
  const QuantizationScheme* scheme = nullptr;
  WeightScales weight_scales = WeightScales::kPerFusedGroup;
  CacheScheme cache = CacheScheme::kNone;
  // What the steps of a probe run with once the cache is quantized.
  AttentionArithmetic attention = AttentionArithmetic::kDequantized;
  float min_cache_scale = 0.0f;
  RoundingAlgorithm rounding = RoundingAlgorithm::kCompensated;
  HeadBasis head_basis = HeadBasis::kFitted;
  int64_t hessian_block_columns = 0;  // widest block of the second-order statistics; 0: no limit
  std::set<std::string> excluded;     // modules that stay as they are
  Dtype dequantized = Dtype::kBF16;   // what weights of a quantized source become before
  // By schemes that are data; nothing: by `scheme`, in one scale per tensor.
  std::optional<SchemeAssignment> schemes;
};

// What is known of one quantized linear, for the report.
struct LinearFacts {
  std::string module;
  float weight_amax = 0.0f;
  float weight_scale = 0.0f;
  float input_amax = 0.0f;
  float input_scale = 0.0f;
  int64_t elements = 0;
  int64_t saturated = 0;
  // Compensated rounding: squared output error over the sampled tokens, and that of rounding to
  // nearest; both 0 otherwise.
  double output_error = 0.0;
  double nearest_output_error = 0.0;
  WeightRole role = WeightRole::kQuery;
  LinearGroup group = LinearGroup::kQueryKeyValue;
};

// Scales of attention: of what the cache holds, and of Q where attention is computed in FP8.
struct CacheFacts {
  std::string attention_module;
  float key_amax = 0.0f;
  float key_scale = 0.0f;
  float value_amax = 0.0f;
  float value_scale = 0.0f;
  float query_amax = 0.0f;
  float query_scale = 0.0f;
};

// Of the experts of a layer.
struct ExpertsFacts {
  std::string module;
  int64_t per_token = 0;
  int64_t calibration_tokens = 0;  // each chose `per_token` experts
  std::vector<int64_t> tokens;     // of them, that chose each expert
  // Of the experts that the deployed network chose for the evaluated tokens, the share that the
  // original chose, too.
  std::optional<double> route_agreement;
};

struct LayerFacts {
  std::vector<LinearFacts> linears;
  std::optional<CacheFacts> cache;
  std::optional<LayerErrors> errors;  // where probed
  std::optional<ExpertsFacts> experts;
};

// Takes rows of a quantized linear as they are finished, from the first to the last: row-major
// codes, `first_row` counted in the linear.
using CodeSink = std::function<void(const LinearSpec& linear, int64_t first_row,
                                    std::span<const std::byte> codes)>;

// Called when a group of the layer has become quantized, and, with nothing, when the cache has: in
// the order of the forward step, so that rounding further on does not blur what a part changes.
using StepSink = std::function<void(std::optional<LinearGroup> group)>;

// Called when a group is about to be rounded: its statistics are in the form that takes.
using FactorSink = std::function<void(LinearGroup group)>;

// Accumulators for what quantizing a layer with these options needs to know.
LayerCalibration MakeCalibration(const LayerSpec& spec, const LayerQuantizationOptions& options);

// Memory that quantizing a layer takes beside the layer, with nothing excluded.
struct QuantizationBytes {
  int64_t second_order = 0;  // sums of all groups; then, group by group, factor and rounding
  int64_t batch = 0;  // of a batch, for the sums; or the weights of o, for the basis of the heads
  int64_t basis = 0;  // sums for it
};
QuantizationBytes BytesToQuantize(const LayerSpec& spec, const LayerQuantizationOptions& options,
                                  int64_t batch_rows, ComputeType compute, int64_t threads);

// Quantizes the layer's linears in place, hands their codes to `sink`, or, by schemes that are
// data, their tensors to `parts` (both may be empty), and sets the cache scales, with a call of
// `step` (may be empty) after each and one of `factored` before each group is rounded. The
// second-order statistics are used up group by group. REQUIRES: excluded modules are whole groups.
LayerFacts QuantizeLayer(LoadedLayer& layer, LayerStatistics statistics,
                         const LayerQuantizationOptions& options, const CodeSink& sink,
                         const StepSink& step = {}, const FactorSink& factored = {},
                         const PartSink& parts = {});

}  // namespace narrow
