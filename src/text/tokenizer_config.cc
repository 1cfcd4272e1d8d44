#include "text/tokenizer_config.h"

#include <charconv>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

constexpr const char* kConfigName = "tokenizer_config.json";
constexpr const char* kOlderTokensName = "added_tokens.json";
constexpr const char* kOlderNamesName = "special_tokens_map.json";

constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};
constexpr const char* kNamedLists[] = {"extra_special_tokens", "additional_special_tokens"};

Json CheckObject(Json json, const std::string& what) {
  if (!json.is_object()) Fail(ErrorCode::kCorruptInput, "{}: expected an object", what);
  return json;
}

Json ReadIfThere(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return Json::object();
  return CheckObject(ReadJsonFile(path), path.string());
}

int64_t ReadId(const std::string& key, const std::string& what) {
  int64_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size() || id < 0) {
    Fail(ErrorCode::kCorruptInput, "{}: added_tokens_decoder has a key {}, expected a token id",
         what, Quoted(key));
  }
  return id;
}

// A token written as its content alone or as an object with flags.
AddedToken ReadNamedToken(const Json& value, std::string_view key, const std::string& what) {
  if (value.is_object()) return ReadAddedToken(value, what, true);
  if (!value.is_string()) {
    Fail(ErrorCode::kCorruptInput, "{}: {} is neither a string nor an object", what, key);
  }
  AddedToken token;
  token.content = value.get<std::string>();
  return token;
}

// Calls `use(token)` for every named token of the file.
template <typename Use>
void ForEachNamed(const Json& file, const std::string& what, const Use& use) {
  for (const char* key : kNames) {
    const auto found = file.find(key);
    if (found != file.end() && !found->is_null()) use(ReadNamedToken(*found, key, what));
  }
  for (const char* key : kNamedLists) {
    const auto found = file.find(key);
    if (found == file.end() || !(found->is_array() || found->is_object())) continue;
    for (const Json& value : *found) use(ReadNamedToken(value, key, what));
  }
}

}  // namespace

TokenizerConfig::TokenizerConfig(const std::filesystem::path& directory)
    : directory_(directory), config_(ReadIfThere(directory / kConfigName)) {
  if (config_.contains("added_tokens_decoder")) return;
  older_tokens_ = ReadIfThere(directory / kOlderTokensName);
  older_names_ = ReadIfThere(directory / kOlderNamesName);
}

TokenizerConfig::TokenizerConfig(Json config, Json older_tokens, Json older_names)
    : config_(CheckObject(std::move(config), kConfigName)) {
  if (config_.contains("added_tokens_decoder")) return;
  older_tokens_ = CheckObject(std::move(older_tokens), kOlderTokensName);
  older_names_ = CheckObject(std::move(older_names), kOlderNamesName);
}

void TokenizerConfig::AddTo(AddedTokenList& list) const {
  AddListed(list);
  AddOlder(list);
  AddNamed(older_names_, (directory_ / kOlderNamesName).string(), list);
  AddNamed(config_, (directory_ / kConfigName).string(), list);
}

void TokenizerConfig::AddListed(AddedTokenList& list) const {
  const std::string what = (directory_ / kConfigName).string();
  const Json* listed = OptionalObject(config_, "added_tokens_decoder", what);
  if (listed == nullptr) return;
  std::map<int64_t, AddedToken> tokens;
  for (const auto& [key, item] : listed->items()) {
    if (!item.is_object()) {
      Fail(ErrorCode::kCorruptInput, "{}: token {} of added_tokens_decoder is no object", what,
           Quoted(key));
    }
    tokens.emplace(ReadId(key, what), ReadAddedToken(item, what));
  }
  for (const auto& [id, token] : tokens) list.Add(token, id);
}

void TokenizerConfig::AddOlder(AddedTokenList& list) const {
  std::set<std::string> special;
  const auto note = [&](const AddedToken& token) { special.insert(token.content); };
  ForEachNamed(older_names_, (directory_ / kOlderNamesName).string(), note);
  ForEachNamed(config_, (directory_ / kConfigName).string(), note);
  const std::string what = (directory_ / kOlderTokensName).string();
  std::map<int64_t, AddedToken> tokens;
  for (const auto& [content, id] : older_tokens_.items()) {
    AddedToken token;
    token.content = content;
    token.normalized = !special.contains(content);
    if (!id.is_number_integer()) {
      Fail(ErrorCode::kCorruptInput, "{}: token {} has an id that is no integer", what,
           Quoted(content));
    }
    if (!list.Contains(content)) tokens.emplace(id.get<int64_t>(), token);
  }
  for (const auto& [id, token] : tokens) list.Add(token, id);
}

void TokenizerConfig::AddNamed(const Json& file, const std::string& what,
                               AddedTokenList& list) const {
  ForEachNamed(file, what, [&](AddedToken token) {
    if (!list.Contains(token.content)) list.Add(std::move(token), std::nullopt);
  });
}

}  // namespace narrow
