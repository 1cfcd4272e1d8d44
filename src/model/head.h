// Which matrix is the head: what config.json says of tying is checked against what is stored.
#pragma once

#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "model/family.h"

namespace narrow {

// Where config.json ties the head to the embedding, the stored tensors decide as they do in
// transformers 5 and vLLM 0.32: a stored head that differs is used, config.lm_head becomes kOwn; of
// one that is equal, the embedding is; where the head alone is stored, it is the embedding, and
// from then on goes by that name. Returns what the user should know, a sentence each. Reads both
// matrices where both are stored, at most to the first difference. Throws: kCorruptInput, saying
// what tie_word_embeddings should be, when it is false and only one of the two is stored:
// transformers would fill the other with random numbers. Source: transformers 5, modeling_utils.py
// (tie_weights); vLLM 0.32, model_loader/weight_tying.py.
std::vector<std::string> SettleHead(const ModelFamily& family, DecoderConfig& config,
                                    CheckpointReader& checkpoint);

}  // namespace narrow
