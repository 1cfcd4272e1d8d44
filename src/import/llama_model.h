// The Llama network a GGUF file describes: sizes from the metadata, tensors under the names of
// Hugging Face checkpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "import/metadata.h"
#include "io/gguf.h"

namespace narrow {

struct LlamaModel {
  int64_t vocabulary = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context = 0;  // positions
  double rms_epsilon = 0;
  double rope_theta = 0;
  std::optional<double> linear_rope_factor;
  std::optional<double> llama3_rope_factor;
  bool tied_embeddings = false;  // no output.weight
  bool attention_bias = false;
  bool mlp_bias = false;
};

// One tensor to be written.
struct ImportedTensor {
  std::string name;  // as in a Hugging Face checkpoint
  const GgufTensor* source = nullptr;
  // GGUF pairs neighbouring rows of a head of q and k for the rotation, Hugging Face pairs row i
  // with row i + head_dim/2. Rows of a head where that order has to be restored, else 0.
  int64_t interleaved_rows = 0;
};

// Reads the sizes. Throws: kUnsupported for another architecture and for options that change the
// computation (experts, sliding window, scales, other rope scaling); kCorruptInput for keys that
// are missing, out of range or contradict each other. llama3_rope_factor is left to the caller.
LlamaModel ReadLlamaModel(const GgufHeader& header, const GgufMetadata& metadata);

// Every tensor of the model in order of the layers, borrowed from `header`, each checked to have
// the shape the sizes give it. Throws: kCorruptInput naming one that is missing or has another
// shape; kUnsupported naming one that has no place in a Llama model.
std::vector<ImportedTensor> MapTensors(const GgufHeader& header, const LlamaModel& model,
                                       const std::string& what);

// rope_freqs.weight: [head_dim / 2] F32. Null when absent. Throws: kCorruptInput, kUnsupported.
const GgufTensor* FindRopeFactors(const GgufHeader& header, const LlamaModel& model,
                                  const std::string& what);

}  // namespace narrow
