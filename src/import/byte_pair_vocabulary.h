// Vocabulary and merges of a tokenizer.json.
#pragma once

#include "import/tokenizer_source.h"
#include "io/json.h"

namespace narrow {

// Token -> id, in order of the ids. Added tokens behind the last other token are left out, as
// Hugging Face does: they have their ids from "added_tokens".
Json VocabularyJson(const TokenizerSource& source);

// "left right", best first. For SentencePiece every pair of pieces that joins to a piece, the
// joined piece with the best score first and equal scores in order of the pieces' ids; or the
// lowest id first, as PieceOrder says. Throws: kCorruptInput for a merge that is not two words;
// kUnsupported for a SentencePiece token too long to be one. Source of the order: the merges of
// Llama 2's tokenizer.json; of Gemma's, generate_merges of transformers 5.19.
Json MergesJson(const TokenizerSource& source, const std::string& what);

}  // namespace narrow
