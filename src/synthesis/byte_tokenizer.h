// The smallest tokenizer that reads any text.
#pragma once

#include <cstdint>
#include <filesystem>

namespace narrow {

// A byte-level BPE model without merges: id b is byte b, followed by two special tokens, of which
// the first begins every text.
inline constexpr int64_t kByteTokenizerBegin = 256;  // <|begin_of_text|>
inline constexpr int64_t kByteTokenizerEnd = 257;    // <|end_of_text|>
inline constexpr int64_t kByteTokenizerSize = 258;

// Writes tokenizer.json and tokenizer_config.json. Throws: kIo.
void WriteByteTokenizer(const std::filesystem::path& directory);

}  // namespace narrow
