// What comes after the last layer of a pass: what is left is copied, and states become losses.
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "base/progress.h"
#include "stream/pass_model.h"
#include "stream/pass_stream.h"
#include "stream/streaming_pass.h"

namespace narrow {

// Windows of the evaluation that the attribution takes.
struct AttributedWindows {
  std::vector<int64_t> windows;
  std::vector<int> ranks;  // that have them
};

// Copies final norm, head and other tensors to the output of `request`, if there is one, and adds
// the losses of the streams that are evaluated to `result`. `models`: the source, and the judged
// one where there is one. Throws: as ComputeLosses.
void EndPass(const PassRequest& request, const std::vector<PassModel>& models,
             const AttributedWindows& attributed, std::list<PassStream>& streams,
             const char* how_to_continue, ProgressSink& progress, PassResult& result);

}  // namespace narrow
