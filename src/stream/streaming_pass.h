// A pass over the weights, as a rule the only one: every decoder layer is read once, or, of two
// checkpoints, one after the other, and
// calibration, the evaluation of the original, quantization, writing, and the evaluation of the
// quantized model happen while it is in memory. What travels from layer to layer are the hidden
// states of the texts.
#pragma once

#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "base/progress.h"
#include "evaluation/attention_figures.h"
#include "evaluation/attribution.h"
#include "evaluation/divergence.h"
#include "io/checkpoint_reader.h"
#include "io/traffic.h"
#include "model/family.h"
#include "quantization/cache_choice.h"
#include "quantization/layer_quantizer.h"
#include "stream/embedding.h"
#include "stream/hidden_store.h"
#include "stream/output_checkpoint.h"
#include "stream/run_state.h"
#include "tensor/compute_type.h"
#include "text/token_stream.h"

namespace narrow {

// How the pass uses memory. None of it changes a result.
struct PassPlan {
  int64_t batch_rows = 4096;  // rows a layer processes together
  Placement hidden_states = Placement::kMemory;
  int64_t read_ahead_bytes = std::numeric_limits<int64_t>::max();  // of the next layer's weights
  // Of experts that are in memory together (ExpertsTogether), at least one.
  int64_t expert_bytes = int64_t{512} << 20;
  int64_t head_slice_rows = std::numeric_limits<int64_t>::max();  // of lm_head in memory, at most
  TiedHead tied_head = TiedHead::kKept;  // no matter where the head is a matrix of its own
};

// A checkpoint whose layers go through a pass.
struct PassSource {
  const CheckpointReader* checkpoint = nullptr;
  const ModelFamily* family = nullptr;
  DecoderConfig config;
};

struct PassRequest {
  const CheckpointReader* checkpoint = nullptr;
  const ModelFamily* family = nullptr;
  DecoderConfig config;
  ComputeType compute = ComputeType::kBfloat16;
  // Another checkpoint of the same shapes, served as it is, whose layers follow the source's one by
  // one: evaluated beside the original in the place of a quantization. What of the source is
  // quantized becomes numbers of config.dtype first, as where it is quantized anew.
  std::optional<PassSource> judged;

  PassSource source() const { return {checkpoint, family, config}; }

  const TokenStream* calibration = nullptr;  // null: no calibration, hence no quantization
  const TokenStream* evaluation = nullptr;   // null: no evaluation
  // Windows of the evaluation, spread over it, on which quantization is evaluated part by part; 0:
  // none.
  int64_t attribution_windows = 0;
  // Of a network with an FP8 cache: one that is made, or the checkpoint that is evaluated.
  AttentionFigures attention = AttentionFigures::kDequantized;
  // Scales of the KV cache are chosen, and evaluated beside a cache that is not quantized: on a
  // model whose weights stay.
  bool cache_trials = false;
  // Where quantization changes each layer's output is measured on this text (ProbeOf); null: not.
  const TokenStream* probe = nullptr;
  std::optional<LayerQuantizationOptions> quantization;
  // Experts are calibrated on all tokens, not on those alone that choose them.
  bool calibrate_all_experts = false;
  OutputCheckpoint* output = nullptr;  // null: nothing is written

  PassPlan plan;
  std::filesystem::path
      work_directory;  // for hidden states; unused when nothing spills or is saved

  // Continue after a state's last layer; its hidden states are in the work directory.
  const RunState* resume = nullptr;
  // Called with the state after a layer (fingerprint left empty); output and hidden states are
  // durable by then. Empty: the run cannot be continued. In memory, hidden states are saved when
  // `save_interval_seconds` have passed since the last time; spilled, after every layer.
  std::function<void(RunState)> save;
  // Called when all of `resume` was taken over.
  std::function<void()> resumed;
  double save_interval_seconds = 60;
};

struct PassResult {
  std::vector<LayerFacts> layers;
  // Mean loss of each evaluation window, in nats per token, of the source; where nothing is
  // compared with it, as it is served: with an FP8 cache in the arithmetic of attention that was
  // asked for, or FP8 of both.
  std::vector<double> stored_window_nll;
  // The quantized or judged model beside it: with every matrix at its own scale, and as vLLM runs
  // it. Absent where not computed; `pseudo` is absent when it is `deployed`, because scales were
  // shared.
  std::optional<DivergenceSummary> pseudo;
  std::optional<DivergenceSummary> deployed;
  std::vector<std::optional<StageErrors>> judged_layers;  // of a judged model, where probed
  // With the cache dequantized, where `deployed` has attention in FP8 and both were asked for. Of a
  // source with an FP8 cache, beside the network of stored_window_nll, not an original.
  std::optional<DivergenceSummary> deployed_bf16_attention;
  // Of a pass that tries caches: the scales of each layer, and what each cache does.
  std::vector<CacheChoice> caches;
  std::optional<DivergenceSummary> cache_unscaled, cache_tensor, cache_heads;
  // Of the deployed model, over the windows of the attribution; empty where there is none.
  std::vector<PartCost> part_costs;
  int64_t attributed_windows = 0;
  std::vector<LayerTimes> layer_times;   // of each layer of this run
  std::vector<int64_t> layer_rss_bytes;  // resident memory after each layer of this run
  double calibration_seconds = 0;
  double quantization_seconds = 0;  // scales, codes and writing
  double evaluation_seconds = 0;
  int64_t calibration_flops = 0;
  int64_t evaluation_flops = 0;
};

PassResult RunStreamingPass(const PassRequest& request, ProgressSink& progress);

}  // namespace narrow
