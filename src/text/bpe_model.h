// The model "BPE" of a tokenizer.json: vocabulary, merges, unknown characters, byte fallback.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/json.h"
#include "text/bpe_merges.h"
#include "text/flat_map.h"
#include "text/word_cache.h"

namespace narrow {

// Ids from outside must be below this (16 times the largest vocabulary known).
inline constexpr int64_t kMaxTokenIds = int64_t{1} << 24;

// What a word is made of: bytes, which the vocabulary spells in the byte-level alphabet;
// characters; or characters of that alphabet, which stand for bytes when a token is shown.
enum class BpeAlphabet { kBytes, kCharacters, kSpelledBytes };

// Immutable after construction, thread-safe.
class BpeModel {
 public:
  // What encoding needs to write to. Thread-compatible.
  struct Scratch {
    MergeScratch merge;
    WordCache cache;
  };

  // Reads member "model". Throws: kCorruptInput (ids negative, huge or given twice, merges of
  // tokens that are not there, unk_token not in the vocabulary), kUnsupported (another model,
  // dropout).
  BpeModel(const Json& model, BpeAlphabet alphabet, std::string_view what);

  // Appends the ids of one pre-tokenized piece. REQUIRES: valid UTF-8 where the alphabet is
  // characters. Throws: kUnsupported for a word of 2^31 bytes.
  void Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

  // The id of a token as tokenizer.json spells it.
  std::optional<int32_t> Find(std::string_view token) const;
  // Number of tokens, which is not more than largest_id() + 1.
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  int32_t largest_id() const { return largest_id_; }  // -1 for an empty vocabulary
  // The bytes of each token that is in the vocabulary.
  std::string TokenBytes(std::string_view token) const;
  const std::unordered_map<std::string, int32_t>& vocabulary() const { return ids_; }

 private:
  void ReadVocabulary(const Json& model, std::string_view what);
  void ReadMerges(const Json& model, std::string_view what);
  void ReadUnknown(const Json& model, std::string_view what);
  void AddMerge(std::string_view left, std::string_view right, uint32_t rank,
                std::string_view what);
  void NoteJunction(std::string_view left, std::string_view right);
  void EncodeWord(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  bool HasAffixes() const { return !prefix_.empty() || !suffix_.empty(); }
  void SplitWithAffixes(std::string_view word, std::vector<int32_t>& symbols) const;
  void SplitIntoSymbols(std::string_view word, std::vector<int32_t>& symbols) const;
  int32_t UnitId(std::string_view text, int64_t offset, int64_t& length) const;
  int32_t CharacterId(char32_t character) const;
  void AddUnknown(bool& waits, std::vector<int32_t>& symbols) const;
  bool AppendFallback(std::string_view unit, std::vector<int32_t>& symbols) const;

  BpeAlphabet alphabet_;
  bool ignore_merges_ = false;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  std::string prefix_;  // continuing_subword_prefix: before every character of a word but the first
  std::string suffix_;  // end_of_word_suffix: after the last one
  int32_t unknown_id_ = -1;
  int32_t largest_id_ = -1;
  std::unordered_map<std::string, int32_t> ids_;    // as spelled in tokenizer.json
  std::unordered_map<std::string, int32_t> words_;  // as pieces are spelled; for ignore_merges_
  std::array<int32_t, 256> byte_ids_{};             // alphabet kBytes: of each byte, or -1
  std::array<int32_t, 256> fallback_ids_{};         // of "<0x00>" to "<0xFF>", or -1
  std::array<int32_t, 128> ascii_ids_{};            // alphabet kCharacters
  FlatMap character_ids_;                           // the other characters
  FlatMap junctions_;                               // pairs of characters some merge joins
  MergeRules rules_;
};

}  // namespace narrow
