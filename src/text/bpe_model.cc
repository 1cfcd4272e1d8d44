#include "text/bpe_model.h"

#include <span>
#include <utility>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace narrow {
namespace {

uint64_t JunctionKey(char32_t left, char32_t right) {
  return static_cast<uint64_t>(left) << 32 | right;
}

std::string FallbackToken(int byte) { return fmt::format("<0x{:02X}>", byte); }

}  // namespace

void BpeModel::Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (ignore_merges_ || alphabet_ == BpeAlphabet::kBytes || HasAffixes()) {
    return EncodeWord(piece, scratch, ids);
  }
  // No merge reaches across two characters that no rule joins, so the parts on both sides are words
  // of their own. Beside an unknown character there is no cut, so that runs of them stay whole.
  const auto size = static_cast<int64_t>(piece.size());
  int64_t begin = 0;
  char32_t left = 0;
  bool left_known = false;
  for (int64_t i = 0; i < size; i += Utf8Length(piece[static_cast<std::size_t>(i)])) {
    const char32_t character = DecodeUtf8(piece, i);
    const bool known = CharacterId(character) >= 0;
    if (i > begin && known && left_known &&
        junctions_.Find(JunctionKey(left, character)) == nullptr) {
      EncodeWord(piece.substr(begin, i - begin), scratch, ids);
      begin = i;
    }
    left = character;
    left_known = known;
  }
  if (begin < size) EncodeWord(piece.substr(begin), scratch, ids);
}

void BpeModel::EncodeWord(std::string_view word, Scratch& scratch,
                          std::vector<int32_t>& ids) const {
  const std::span<const int32_t> cached = scratch.cache.Find(word);
  if (!cached.empty()) {
    ids.insert(ids.end(), cached.begin(), cached.end());
    return;
  }
  if (word.size() > INT32_MAX) {
    Fail(ErrorCode::kUnsupported, "a word of {} bytes; at most {} are supported", word.size(),
         INT32_MAX);
  }
  std::vector<int32_t>& symbols = scratch.merge.symbols;
  symbols.clear();
  const auto whole = ignore_merges_ ? words_.find(std::string(word)) : words_.end();
  if (whole != words_.end()) {
    symbols.push_back(whole->second);
  } else {
    if (HasAffixes()) {
      SplitWithAffixes(word, symbols);
    } else {
      SplitIntoSymbols(word, symbols);
    }
    rules_.Apply(scratch.merge);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  scratch.cache.Put(word, symbols);
}

int32_t BpeModel::CharacterId(char32_t character) const {
  if (character < ascii_ids_.size()) return ascii_ids_[character];
  const uint64_t* id = character_ids_.Find(character);
  return id == nullptr ? -1 : static_cast<int32_t>(*id);
}

// The id of the byte or character at `offset`, or -1; `length` is its size in the word.
int32_t BpeModel::UnitId(std::string_view text, int64_t offset, int64_t& length) const {
  const char lead = text[static_cast<std::size_t>(offset)];
  if (alphabet_ == BpeAlphabet::kBytes) {
    length = 1;
    return byte_ids_[static_cast<uint8_t>(lead)];
  }
  length = Utf8Length(lead);
  return CharacterId(DecodeUtf8(text, offset));
}

bool BpeModel::AppendFallback(std::string_view unit, std::vector<int32_t>& symbols) const {
  for (const char c : unit) {
    if (fallback_ids_[static_cast<uint8_t>(c)] < 0) return false;
  }
  for (const char c : unit) symbols.push_back(fallback_ids_[static_cast<uint8_t>(c)]);
  return true;
}

// An unknown symbol waits until a known one follows, and byte fallback does not count as known:
// that is what merge_word of `tokenizers` does.
void BpeModel::SplitIntoSymbols(std::string_view word, std::vector<int32_t>& symbols) const {
  bool unknown_waits = false;
  int64_t length = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(word.size()); i += length) {
    const int32_t id = UnitId(word, i, length);
    if (id >= 0) {
      if (unknown_waits) symbols.push_back(unknown_id_);
      unknown_waits = false;
      symbols.push_back(id);
      continue;
    }
    if (byte_fallback_) {
      const auto byte = static_cast<uint8_t>(word[static_cast<std::size_t>(i)]);
      const std::string_view unit = alphabet_ == BpeAlphabet::kBytes
                                        ? ByteLevelCharacter(byte)
                                        : word.substr(static_cast<std::size_t>(i), length);
      if (AppendFallback(unit, symbols)) continue;
    }
    AddUnknown(unknown_waits, symbols);
  }
  if (unknown_waits) symbols.push_back(unknown_id_);
}

void BpeModel::AddUnknown(bool& waits, std::vector<int32_t>& symbols) const {
  if (unknown_id_ < 0) return;
  if (waits && !fuse_unknown_) symbols.push_back(unknown_id_);
  waits = true;
}

// As SplitIntoSymbols, looking every character up with what is put before and after it.
void BpeModel::SplitWithAffixes(std::string_view word, std::vector<int32_t>& symbols) const {
  const std::string spelled =
      alphabet_ == BpeAlphabet::kBytes ? SpellBytes(word) : std::string(word);
  bool unknown_waits = false;
  std::size_t length = 0;
  for (std::size_t i = 0; i < spelled.size(); i += length) {
    length = static_cast<std::size_t>(Utf8Length(spelled[i]));
    std::string unit = i == 0 ? "" : prefix_;
    unit.append(spelled, i, length);
    if (i + length == spelled.size()) unit += suffix_;
    if (const std::optional<int32_t> id = Find(unit)) {
      if (unknown_waits) symbols.push_back(unknown_id_);
      unknown_waits = false;
      symbols.push_back(*id);
    } else if (!byte_fallback_ || !AppendFallback(unit, symbols)) {
      AddUnknown(unknown_waits, symbols);
    }
  }
  if (unknown_waits) symbols.push_back(unknown_id_);
}

std::optional<int32_t> BpeModel::Find(std::string_view token) const {
  const auto found = ids_.find(std::string(token));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::string BpeModel::TokenBytes(std::string_view token) const {
  if (alphabet_ != BpeAlphabet::kCharacters) {
    return DecodeByteLevel(token).value_or(std::string(token));
  }
  if (byte_fallback_ && token.size() == 6 && token.starts_with("<0x")) {
    for (int byte = 0; byte < 256; ++byte) {
      if (token == FallbackToken(byte)) return std::string(1, static_cast<char>(byte));
    }
  }
  constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space
  std::string bytes;
  for (std::size_t i = 0; i < token.size();) {
    const bool space = token.substr(i).starts_with(kSpaceMark);
    bytes += space ? ' ' : token[i];
    i += space ? kSpaceMark.size() : 1;
  }
  return bytes;
}

}  // namespace narrow
