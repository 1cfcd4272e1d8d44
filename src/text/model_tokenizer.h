// What turns a model's texts into token ids: its vocabulary and, where it is needed, its tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "io/json.h"
#include "text/tokenizer.h"

namespace narrow {

// Reads tokenizer.json when it is first asked for: texts that are token ids need none.
// Thread-compatible.
class ModelTokenizer {
 public:
  // `vocabulary`: the rows of the embedding. `config` is that of the model. `begins_windows`:
  // whether the family wants the begin of text at the start of every window.
  ModelTokenizer(std::filesystem::path directory, int64_t vocabulary, const Json& config,
                 bool begins_windows);

  int64_t vocabulary() const { return vocabulary_; }
  // The begin-of-text token that config.json names, if it names one.
  std::optional<int64_t> begin_of_text() const { return begin_of_text_; }
  bool begins_windows() const { return begins_windows_; }

  // Throws: as Tokenizer::FromDirectory.
  const Tokenizer& Get();
  // Null when the directory has none that can be read.
  const Tokenizer* GetIfAny();

 private:
  std::filesystem::path directory_;
  int64_t vocabulary_;
  std::optional<int64_t> begin_of_text_;
  bool begins_windows_;
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace narrow
