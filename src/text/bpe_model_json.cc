#include <algorithm>
#include <span>

#include "base/error.h"
#include "text/bpe_model.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace narrow {
namespace {

bool IsOneCharacter(std::string_view token) {
  return !token.empty() && static_cast<int64_t>(token.size()) == Utf8Length(token[0]);
}

// Files from before 2020 have no type; their members tell.
std::string Kind(const Json& model, std::string_view what) {
  if (const auto type = OptionalString(model, "type", what)) return *type;
  if (model.contains("vocab") && model["vocab"].is_array()) return "Unigram";
  return model.contains("continuing_subword_prefix") && !model.contains("merges") ? "WordPiece"
                                                                                  : "BPE";
}

void CheckKind(const Json& model, std::string_view what) {
  const std::string type = Kind(model, what);
  if (type != "BPE") {
    Fail(ErrorCode::kUnsupported,
         "{}: model type {} is not supported, only BPE; texts can be given as token ids that "
         "another program made",
         what, Quoted(type));
  }
  if (OptionalNumber(model, "dropout", what).value_or(0.0) != 0.0) {
    Fail(ErrorCode::kUnsupported, "{}: BPE dropout makes ids random and is not supported", what);
  }
}

}  // namespace

BpeModel::BpeModel(const Json& model, BpeAlphabet alphabet, std::string_view what)
    : alphabet_(alphabet) {
  CheckKind(model, what);
  ignore_merges_ = OptionalBool(model, "ignore_merges", what).value_or(false);
  byte_fallback_ = OptionalBool(model, "byte_fallback", what).value_or(false);
  fuse_unknown_ = OptionalBool(model, "fuse_unk", what).value_or(false);
  prefix_ = OptionalString(model, "continuing_subword_prefix", what).value_or("");
  suffix_ = OptionalString(model, "end_of_word_suffix", what).value_or("");
  ReadVocabulary(model, what);
  ReadMerges(model, what);
  ReadUnknown(model, what);
}

void BpeModel::ReadVocabulary(const Json& model, std::string_view what) {
  const Json* vocabulary = OptionalObject(model, "vocab", what);
  if (vocabulary == nullptr) Fail(ErrorCode::kCorruptInput, "{}: model has no vocab", what);
  const auto& tokens = vocabulary->get_ref<const Json::object_t&>();
  byte_ids_.fill(-1);
  fallback_ids_.fill(-1);
  ascii_ids_.fill(-1);
  ids_.reserve(tokens.size());
  std::vector<std::pair<char32_t, int32_t>> characters;
  for (const auto& [token, value] : tokens) {
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id >= kMaxTokenIds) {
      Fail(ErrorCode::kCorruptInput, "{}: token {} has id {}, expected an integer from 0 to {}",
           what, Quoted(token), value.is_number() ? value.dump() : value.type_name(),
           kMaxTokenIds - 1);
    }
    const auto id32 = static_cast<int32_t>(id);
    ids_.emplace(token, id32);
    largest_id_ = std::max(largest_id_, id32);
    if (IsOneCharacter(token)) characters.emplace_back(DecodeUtf8(token, 0), id32);
    if (ignore_merges_) {
      const bool bytes = alphabet_ == BpeAlphabet::kBytes;
      std::optional<std::string> word = bytes ? DecodeByteLevel(token) : token;
      if (word) words_.emplace(*std::move(word), id32);
    }
  }
  std::vector<bool> seen(static_cast<std::size_t>(largest_id_ + 1));
  for (const auto& [token, id] : ids_) {
    if (seen[static_cast<std::size_t>(id)]) {
      Fail(ErrorCode::kCorruptInput, "{}: two tokens have id {}, one is {}", what, id,
           Quoted(token));
    }
    seen[static_cast<std::size_t>(id)] = true;
  }
  character_ids_ = FlatMap(static_cast<int64_t>(characters.size()));
  for (const auto& [character, id] : characters) {
    if (character < ascii_ids_.size()) {
      ascii_ids_[character] = id;
    } else {
      character_ids_.Put(character, static_cast<uint64_t>(id));
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto index = static_cast<std::size_t>(byte);
    byte_ids_[index] = Find(ByteLevelCharacter(static_cast<uint8_t>(byte))).value_or(-1);
    fallback_ids_[index] = Find(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
}

void BpeModel::ReadMerges(const Json& model, std::string_view what) {
  const Json* merges = OptionalArray(model, "merges", what);
  if (merges == nullptr) Fail(ErrorCode::kCorruptInput, "{}: model has no merges", what);
  rules_ = MergeRules(static_cast<int64_t>(merges->size()));
  junctions_ = FlatMap(alphabet_ != BpeAlphabet::kBytes ? static_cast<int64_t>(merges->size()) : 0);
  uint32_t rank = 0;
  for (const Json& merge : *merges) {
    if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const std::size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        Fail(ErrorCode::kCorruptInput, "{}: merge {} is not two tokens and a space", what,
             Quoted(text));
      }
      AddMerge(text.substr(0, space), text.substr(space + 1), rank++, what);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      AddMerge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(),
               rank++, what);
    } else {
      Fail(ErrorCode::kCorruptInput, "{}: merge {} is neither a string nor a pair of strings", what,
           rank);
    }
  }
}

void BpeModel::AddMerge(std::string_view left, std::string_view right, uint32_t rank,
                        std::string_view what) {
  // The right token loses as many bytes as the prefix has characters, whatever they are.
  const auto prefix = static_cast<std::size_t>(Utf8Characters(prefix_));
  const std::string merged =
      std::string(left) + std::string(right.substr(std::min(prefix, right.size())));
  const std::optional<int32_t> ids[] = {Find(left), Find(right), Find(merged)};
  const std::string_view names[] = {left, right, merged};
  for (std::size_t i = 0; i < 3; ++i) {
    if (names[i].empty() || !ids[i]) {
      Fail(ErrorCode::kCorruptInput, "{}: merge {} ({} and {}) needs {}, not in vocab", what, rank,
           Quoted(left), Quoted(right), Quoted(names[i]));
    }
  }
  rules_.Add(*ids[0], *ids[1], rank, *ids[2]);
  if (alphabet_ != BpeAlphabet::kBytes) NoteJunction(left, right);
}

void BpeModel::NoteJunction(std::string_view left, std::string_view right) {
  const char32_t last = DecodeUtf8(left, PreviousUtf8(left, static_cast<int64_t>(left.size())));
  junctions_.Put(static_cast<uint64_t>(last) << 32 | DecodeUtf8(right, 0), 1);
}

void BpeModel::ReadUnknown(const Json& model, std::string_view what) {
  const std::optional<std::string> token = OptionalString(model, "unk_token", what);
  if (!token) return;
  const std::optional<int32_t> id = Find(*token);
  unknown_id_ = id.value_or(-1);
  const auto complete = [](const std::array<int32_t, 256>& bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](int32_t byte) { return byte >= 0; });
  };
  const bool never_needed =
      (byte_fallback_ && complete(fallback_ids_)) ||
      (alphabet_ != BpeAlphabet::kCharacters && !HasAffixes() && complete(byte_ids_));
  if (!id && !never_needed) {
    Fail(ErrorCode::kCorruptInput, "{}: unk_token {} is not in vocab", what, Quoted(*token));
  }
}

}  // namespace narrow
