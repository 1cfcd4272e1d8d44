// The experts of a layer, some at a time: every stream goes through those that are in memory.
#pragma once

#include <functional>
#include <list>
#include <vector>

#include "model/experts.h"
#include "stream/layer_units.h"
#include "stream/pass_stream.h"
#include "stream/streaming_pass.h"

namespace narrow {

// What the pass does for it, and learns.
struct ExpertStagesCalls {
  std::function<std::vector<LoadedLayer>()> load;  // the next unit
  std::function<void()> keep_going;                // throws where the run should stop
  std::function<void(double share)> done;          // of the layer's experts, with all streams
};

struct ExpertStagesResult {
  std::vector<LinearFacts> linears;  // of quantized experts
  ExpertsFacts facts;
  double calibration_seconds = 0, quantization_seconds = 0, evaluation_seconds = 0;
  int64_t calibration_flops = 0, evaluation_flops = 0;
};

// Takes the streams, which hold the layer's inputs and routes of its experts, through all of them.
// First the original: calibration and evaluation of it. Then, where a request quantizes, expert by
// expert: the statistics that rounding needs, codes, and the evaluation of the quantized networks;
// where it judges, that of the other checkpoint's experts.
ExpertStagesResult RunExperts(const PassRequest& request, const LayerSpec& layer,
                              std::list<PassStream>& streams, const ExpertStagesCalls& calls);

// Adds times and operations.
void AddSeconds(const ExpertStagesResult& experts, PassResult& result);

}  // namespace narrow
