// The tokenizer a GGUF file carries, checked and without the defaults left open.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "import/metadata.h"
#include "import/word_splitting.h"

namespace narrow {

enum class TokenizerKind {
  kByteLevel,      // BPE over bytes; `splitting` says how text is cut
  kSentencePiece,  // BPE over characters with scores and byte fallback, as Llama 2's
};

// How the pieces of a SentencePiece vocabulary are ranked and spelled.
enum class PieceOrder {
  kScores,  // the best score is joined first
  kIds,  // as kScores, but the lowest id, and runs of spaces are pieces that the file spells with
         // spaces: Gemma, whose scores say nothing of the pieces it added by hand
};

inline constexpr const char* kSpaceMark = "\u2581";  // a space in SentencePiece's vocabulary

// Values of tokenizer.ggml.token_type that matter.
inline constexpr int64_t kOrdinaryToken = 1;
inline constexpr int64_t kUnknownToken = 2;
inline constexpr int64_t kControlToken = 3;
inline constexpr int64_t kUserDefinedToken = 4;

// Merges and scores borrow the metadata.
struct TokenizerSource {
  TokenizerKind kind = TokenizerKind::kByteLevel;
  const WordSplitting* splitting = nullptr;          // null for SentencePiece
  std::vector<std::string> tokens;                   // by id, as tokenizer.json spells them
  std::vector<int64_t> types;                        // as many
  const std::vector<std::string>* merges = nullptr;  // "left right"; null for SentencePiece
  const std::vector<double>* scores = nullptr;       // as many as tokens; SentencePiece only
  PieceOrder order = PieceOrder::kScores;            // SentencePiece only
  std::optional<int64_t> bos;
  std::optional<int64_t> eos;
  std::optional<int64_t> end_of_turn;
  std::optional<int64_t> unknown;
  std::optional<int64_t> padding;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = true;  // SentencePiece only
  std::optional<std::string> chat_template;

  const std::string& Token(int64_t id) const { return tokens[static_cast<std::size_t>(id)]; }
  // Whether the token is looked for in the text before the model sees it.
  bool Added(int64_t id) const {
    const int64_t type = types[static_cast<std::size_t>(id)];
    return type >= kUnknownToken && type <= kUserDefinedToken;
  }
  bool Special(int64_t id) const {
    return Added(id) && types[static_cast<std::size_t>(id)] != kUserDefinedToken;
  }
};

// `pre_tokenizer`, where it is given, stands for tokenizer.ggml.pre; `order` is the architecture's,
// for a SentencePiece vocabulary. Throws: kUnsupported naming
// the model or pre-tokenizer, and for a file that names none; kCorruptInput for lists that are
// missing, of different lengths, empty tokens or tokens given twice, ids outside the vocabulary.
TokenizerSource ReadTokenizerSource(const GgufMetadata& metadata,
                                    const std::optional<std::string>& pre_tokenizer,
                                    PieceOrder order = PieceOrder::kScores);

}  // namespace narrow
