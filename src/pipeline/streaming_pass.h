// The one pass over the weights: every decoder layer is read once, and calibration, the evaluation of
// the original, quantization, writing, and the evaluation of the quantized model happen while it is
// in memory. What travels from layer to layer are the hidden states of the texts.
#pragma once

#include <optional>
#include <vector>

#include "base/progress.h"
#include "io/checkpoint_reader.h"
#include "kernels/matmul.h"
#include "model/family.h"
#include "pipeline/layer_quantizer.h"
#include "pipeline/output_checkpoint.h"
#include "pipeline/token_stream.h"

namespace narrow {

struct PassRequest {
  const CheckpointReader* checkpoint = nullptr;
  const ModelFamily* family = nullptr;
  DecoderConfig config;
  ComputeType compute = ComputeType::kBfloat16;
  const QuantizationScheme* scheme = nullptr;

  const TokenStream* calibration = nullptr;  // null: no calibration, hence no quantization
  const TokenStream* evaluation = nullptr;   // null: no evaluation
  std::optional<LayerQuantizationOptions> quantization;
  OutputCheckpoint* output = nullptr;  // null: nothing is written
};

struct PassResult {
  std::vector<LayerFacts> layers;
  // Mean loss of each evaluation window, in nats per token. `stored` is the checkpoint as it lies on
  // disk, `quantized` what the pass made of it.
  std::vector<double> stored_window_nll;
  std::vector<double> quantized_window_nll;
  double calibration_seconds = 0;
  double quantization_seconds = 0;  // scales, codes and writing
  double evaluation_seconds = 0;
  int64_t calibration_flops = 0;
  int64_t evaluation_flops = 0;
};

PassResult RunStreamingPass(const PassRequest& request, ProgressSink& progress);

}  // namespace narrow
