// The model a GGUF file describes: sizes from the metadata, tensors under the names of Hugging Face
// checkpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "import/architecture.h"
#include "import/gguf_set.h"
#include "import/metadata.h"

namespace narrow {

// What is common to all architectures; the rest is read where config.json is made.
struct GgufModel {
  const GgufArchitecture* architecture = nullptr;
  int64_t vocabulary = 0;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t rotated = 0;  // elements of a head that the rotation turns
  int64_t context = 0;  // positions
  double norm_epsilon = 0;
  double rope_theta = 0;
  bool tied_embeddings = false;  // no output.weight
  bool attention_bias = false;
  bool mlp_bias = false;
  bool query_key_norm = false;
  // Divisors of the frequencies, one a pair: of rope_freqs.weight, and of longrope's two tensors.
  // Empty where there are none.
  std::vector<float> rope_factors;
  std::vector<float> short_factors;
  std::vector<float> long_factors;

  // The metadata key `name` of the architecture: "gemma3.block_count".
  std::string Key(std::string_view name) const {
    return std::string(architecture->name) + '.' + std::string(name);
  }
};

// One tensor to be written.
struct ImportedTensor {
  std::string name;  // as in a Hugging Face checkpoint
  GgufSource source;
  // GGUF pairs neighbouring rows of a head of q and k for the rotation, Hugging Face pairs row i
  // with row i + head_dim/2. Rows of a head where that order has to be restored, else 0.
  int64_t interleaved_rows = 0;
  float offset = 0;  // to be subtracted
};

// Reads the sizes. Throws: kUnsupported for an architecture that is not known and for options that
// change its computation; kCorruptInput for keys that are missing, out of range or contradict each
// other. The factors are left to ReadRopeFactors.
GgufModel ReadGgufModel(const GgufMetadata& metadata, const GgufTensors& tensors);

// Every tensor of the model in order of the layers, each checked to have the shape the sizes give
// it. Throws: kCorruptInput naming one that is missing or has another shape; kUnsupported naming
// one that has no place in such a model.
std::vector<ImportedTensor> MapTensors(const GgufModel& model, GgufTensors tensors);

// Reads the factors of the rotary embedding, where the file has any. Throws: kCorruptInput,
// kUnsupported; as InputFile::ReadAt.
void ReadRopeFactors(GgufTensors tensors, GgufModel& model);

}  // namespace narrow
