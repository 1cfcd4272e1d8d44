// A Hugging Face BF16 checkpoint with tokenizer out of a GGUF file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "io/staged_directory.h"

namespace narrow {

struct ImportOptions {
  StagedDirectory::Existing existing = StagedDirectory::Existing::kRefuse;
  int64_t max_shard_bytes = 5'000'000'000;
  // In place of tokenizer.ggml.pre, which files from before April 2024 do not have.
  std::optional<std::string> pre_tokenizer;
};

struct ImportResult {
  int64_t tensors = 0;
  int64_t tensor_bytes = 0;
};

// Reads a Llama-architecture GGUF (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K) and
// writes `directory`: weights in BF16 (decoded in f32, rounded to nearest even), config.json,
// generation_config.json, tokenizer.json, tokenizer_config.json, and a README.md when the file
// names a license. The directory appears complete or not at all. Memory: the file's header and some
// rows of one tensor. Throws: kNotFound, kCorruptInput, kUnsupported (all before any weight is
// read), kNumeric naming a tensor with NaN or infinity or a value beyond BF16's range,
// kInvalidArgument when the directory exists and may not be replaced, or does not lie apart from
// the file; kIo. Source: docs/formats/gguf.md.
ImportResult ImportGguf(const std::filesystem::path& gguf, const std::filesystem::path& directory,
                        const ImportOptions& options, ProgressSink& progress);

}  // namespace narrow
