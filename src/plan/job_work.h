// What a job has to do, counted before it begins: bytes of the checkpoint read and written, and
// operations. The formulas are those of docs/memory.md.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "model/model_source.h"
#include "plan/memory_plan.h"

namespace narrow {

// Linears that are quantized in `layers` layers from the statistics of one input.
struct QuantizedGroup {
  int64_t columns = 0;
  int64_t rows = 0;
  int64_t layers = 0;
  double share = 1;  // of the tokens, that go through it: those of an expert are few
};

struct JobWork {
  JobShape shape;
  int64_t calibration_length = 0;  // tokens of the longest document
  int64_t window_tokens = 0;       // of evaluation: TokenStream::mean_length
  int64_t embedding_bytes = 0;     // as stored, copied to the output
  int64_t head_bytes = 0;          // as stored; copied unless it is the embedding
  int64_t layer_bytes = 0;         // all layers, as stored
  int64_t layer_output_bytes = 0;  // all layers, as written
  int64_t expert_bytes = 0;        // of layer_bytes, of experts that are quantized
  int64_t other_bytes = 0;         // tokenizer and other files that are copied
  int64_t max_shard_bytes = 0;
  // The pass before that chooses what to keep: errors alone, or, for --max_kl, a whole one that is
  // the last when the KL is low enough.
  enum class Measuring { kNone, kErrors, kEverything } measuring = Measuring::kNone;
  int64_t kept_bytes = 0;  // that the output grows by at most for --keep_layers
  std::vector<QuantizedGroup> groups;

  // Without calibration nothing is quantized or written: evaluation alone.
  bool quantizes() const { return shape.calibration_tokens > 0; }
  bool own_head() const { return shape.config.lm_head == DecoderConfig::LmHead::kOwn; }
  int64_t weights() const;       // of the whole model
  int64_t output_bytes() const;  // of the new checkpoint
  // Hidden states on disk: two generations, when they spill and when a run in memory is saved.
  int64_t work_directory_bytes() const;
};

// Weights of all layers, in elements.
int64_t LayerWeights(const JobShape& shape);

// Sizes of the tensors come from the checkpoint's headers, or, when there are only config.json and
// perhaps an index (model.checkpoint is null), from the config's shapes and dtype. `excluded`:
// modules that are not quantized, whole groups.
JobWork CountWork(const ModelSource& model, const std::set<std::string>& excluded, JobShape shape);

// What another checkpoint of the same shapes that is read beside the first adds.
void AddReading(const JobWork& other, JobWork& work);

// Operations of one layer's linears and attention on all tokens of the streams through the original
// layer (calibration, evaluation) and through the quantized one.
double OriginalLayerFlops(const JobWork& work);
double QuantizedLayerFlops(const JobWork& work);

}  // namespace narrow
