// The config.json of a quantized checkpoint.
#pragma once

#include <string>

#include "formats/description.h"
#include "formats/registry.h"
#include "io/json.h"

namespace narrow {

// What a config may leave open and the quantized one states.
struct StatedFacts {
  bool own_head = false;     // lm_head is a matrix of its own: "tie_word_embeddings" becomes false
  std::string architecture;  // where the source names none; empty: it stays so
  std::string model_dtype;   // where the source names none
};

// `source` with its keys sorted on every level, its own dtype kept ("torch_dtype" is added when it
// has none, because a loader would then guess it from the FP8 tensors), "tie_word_embeddings" false
// where the head is a matrix of its own after all, and "quantization_config" added. Throws:
// kCorruptInput when `source` is no object; kUnsupported when it is quantized already.
Json QuantizedConfig(const Json& source, const ExportFormat& format,
                     const QuantizedCheckpointDescription& description);

// The same with any "quantization_config".
Json WithQuantizationConfig(const Json& source, const Json& quantization_config,
                            const StatedFacts& facts);

}  // namespace narrow
