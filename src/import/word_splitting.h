// What tokenizer.ggml.pre of a GGUF file means: how the text of a byte-level tokenizer is cut into
// words.
#pragma once

#include <string>
#include <string_view>

#include "io/json.h"

namespace narrow {

// One way to cut. Every name in the table is one that llama.cpp gives to files of the architectures
// that are imported.
struct WordSplitting {
  std::string_view name;
  Json (*pre_tokenizer)() = nullptr;  // the member of tokenizer.json
  bool nfc = false;                   // text is normalized first
  bool ignore_merges = false;         // a word of the vocabulary is one token, merges or not
  bool add_bos = false;               // where the file does not say
};

// Throws: kUnsupported naming `name` and what is known.
const WordSplitting& FindWordSplitting(std::string_view name, std::string_view what);

// All names, for messages and help.
std::string WordSplittingNames();

// The ByteLevel member of tokenizer.json.
enum class PrefixSpace { kNo, kYes };
enum class TrimOffsets { kNo, kYes };
enum class WordRegex { kNo, kYes };
Json ByteLevelJson(PrefixSpace prefix_space, TrimOffsets trim_offsets, WordRegex word_regex);

}  // namespace narrow
