// A whole synthetic checkpoint: the shape of a published model, weights that only look like its
// own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "io/json.h"
#include "io/staged_directory.h"

namespace narrow {

struct SynthesizeRequest {
  std::filesystem::path output_directory;
  StagedDirectory::Existing existing = StagedDirectory::Existing::kRefuse;
  Json config;                        // a config.json of a family this build knows
  std::string config_name;            // names it in messages
  std::filesystem::path config_file;  // that it was read from; empty: none
  int64_t layers = 0;                 // replaces num_hidden_layers; 0: as many as the config says
  uint64_t seed = 0;
  // Its tokenizer files are copied; without one, a tokenizer of single bytes is written and
  // bos_token_id and eos_token_id are its own.
  std::optional<std::filesystem::path> tokenizer_directory;
  int64_t max_shard_bytes = 5'000'000'000;
};

struct SynthesizeResult {
  int64_t layers = 0;
  int64_t tensors = 0;
  int64_t tensor_bytes = 0;
};

// Leaves the complete checkpoint (BF16 weights, config.json, tokenizer) or nothing. The first N
// layers are the same whatever --layers is, up to the config's own number; the residual stream
// stays bounded because o_proj and down_proj shrink with the square root of the number of layers.
// Throws: kInvalidArgument when the output does not lie apart from what is read, or may not be
// replaced; as the family's parse_config; kInvalidArgument when the tokenizer does not fit the
// vocabulary; kIo, before anything is written when the disk is too small; kInterrupted,
// kTerminated.
SynthesizeResult RunSynthesize(const SynthesizeRequest& request, ProgressSink& progress);

}  // namespace narrow
