// The start of the pass: the embedding passes by once, and its rows become the first hidden states
// of every text. Losses are its end (losses.h).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "device/packed_weights.h"
#include "io/checkpoint_reader.h"
#include "model/family.h"
#include "stream/hidden_store.h"
#include "stream/output_checkpoint.h"
#include "text/token_stream.h"

namespace narrow {

// A head that is the embedding, between the two: packed and kept, or read again for the losses.
enum class TiedHead { kReadAgain, kKept };

struct EmbeddingRequest {
  const CheckpointReader* checkpoint = nullptr;
  const ModelFamily* family = nullptr;
  const DecoderConfig* config = nullptr;
  ComputeType compute = ComputeType::kBfloat16;  // of the head
  OutputCheckpoint* copy_to = nullptr;  // the embedding goes there on the way; null: it does not
  // Texts, of which several may be the same, and where their hidden states belong.
  struct Text {
    const TokenStream* tokens = nullptr;
    HiddenStore* hidden = nullptr;
    std::span<const Part> parts;  // rows of other ranks are left out
  };
  std::vector<Text> texts;
  TiedHead head = TiedHead::kReadAgain;  // no matter where the head is a matrix of its own
  const char* how_to_continue = "";      // of a run that a signal stops
};

// Reads every byte of the embedding once. Returns lm_head, packed in panels of kVocabularySlice,
// where it is the embedding and is to be kept. Throws: kNumeric when the
// embedding is not finite, and as a stop request says.
std::optional<PackedWeights> Embed(const EmbeddingRequest& request);

}  // namespace narrow
