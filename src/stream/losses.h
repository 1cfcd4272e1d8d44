// The end of the pass: final norm and lm_head turn hidden states into the loss of every token, and
// into what quantization did to it. The head goes in slices of the vocabulary.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "device/packed_weights.h"
#include "evaluation/divergence.h"
#include "io/checkpoint_reader.h"
#include "model/family.h"
#include "model/norm.h"
#include "stream/hidden_store.h"
#include "stream/output_checkpoint.h"
#include "text/token_stream.h"

namespace narrow {

// Rows of lm_head that are in memory together when at most `rows` may be: whole panels of
// kVocabularySlice, at least one, in slices of about equal size. The whole vocabulary is one slice.
int64_t HeadSliceRows(int64_t vocabulary, int64_t rows);

// Memory of ComputeLosses beside head and hidden states: the norms of tiles of so many networks on
// each thread, the logits of one tile on each thread, and what is kept of `tokens` tokens, those of
// all networks together.
int64_t LossNormBytes(int64_t networks, int64_t hidden, ComputeType compute);
int64_t LossLogitBytes();
int64_t LossTokenBytes(int64_t tokens);

// The head of a model and the norm before it.
struct ModelHead {
  const CheckpointReader* checkpoint = nullptr;
  const ModelFamily* family = nullptr;
  const DecoderConfig* config = nullptr;
  const Norm* final_norm = nullptr;
  const PackedWeights* kept =
      nullptr;  // all of it, in panels of kVocabularySlice; null: it is read
};

struct LossRequest {
  ModelHead head;
  // Of the variants, where it is not the original's; of the same shape, kept where the original's
  // is.
  std::optional<ModelHead> variants_head;
  ComputeType compute = ComputeType::kBfloat16;
  OutputCheckpoint* copy_to = nullptr;  // lm_head goes there on the way; null: it does not
  int64_t head_slice_rows = 0;          // at most; does not change a result
  const TokenStream* tokens = nullptr;
  std::span<const Part> parts;       // of tokens; a rank has the hidden states of its own
  std::vector<HiddenStore*> hidden;  // after the last layer; the original's first, then variants'
  // Variants that saw some of the sequences alone, which lie end to end in their hidden states.
  std::vector<int64_t> partial_sequences;  // of `tokens`, increasing
  std::vector<int> partial_ranks;          // which rank has each of them
  std::vector<HiddenStore*> partial_hidden;
  int64_t partial_of_last = 1;  // of `hidden`, which are summarized over the same sequences, too
  const char* how_to_continue = "";  // of a run that a signal stops
};

struct Losses {
  std::vector<double> window_nll;           // means of the original, nats per token
  std::vector<DivergenceSummary> variants;  // in the order of `hidden`
  // Over the partial sequences alone: of `partial_hidden`, then of the last ones of `hidden`.
  std::vector<DivergenceSummary> partial;
  int64_t flops = 0;
};

// All ranks have all losses afterwards.
// Reads every byte of lm_head once, or, where it was kept, nothing; hidden states once for each
// slice. Throws: kNumeric when a head or a loss is not finite, and as a stop request says.
Losses ComputeLosses(const LossRequest& request, ProgressSink& progress);

}  // namespace narrow
