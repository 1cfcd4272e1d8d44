// The files beside a tokenizer.json, as far as they decide what a text becomes.
#pragma once

#include <filesystem>
#include <string>

#include "io/json.h"
#include "text/added_tokens.h"

namespace narrow {

// tokenizer_config.json, and the files that came before it: added_tokens.json and
// special_tokens_map.json, which are read where the first has no added_tokens_decoder.
class TokenizerConfig {
 public:
  TokenizerConfig() = default;  // of no files
  // Reads those of the files that are there. Throws: kCorruptInput, and as ReadJsonFile does.
  explicit TokenizerConfig(const std::filesystem::path& directory);

  // Of contents that were read: tokenizer_config.json, added_tokens.json and
  // special_tokens_map.json. Throws: kCorruptInput for what is no object.
  TokenizerConfig(Json config, Json older_tokens, Json older_names);

  // Adds the tokens that the files list, in order of their ids, and then the named ones (bos_token
  // and so on) that are not there yet, as transformers 5.19 does: flags given here replace those of
  // tokenizer.json. Throws: kCorruptInput, as the list does and for wrong types.
  void AddTo(AddedTokenList& list) const;

 private:
  void AddListed(AddedTokenList& list) const;
  void AddOlder(AddedTokenList& list) const;
  void AddNamed(const Json& file, const std::string& what, AddedTokenList& list) const;

  std::filesystem::path directory_;
  Json config_ = Json::object();
  Json older_tokens_ = Json::object();  // added_tokens.json: id by content
  Json older_names_ = Json::object();   // special_tokens_map.json
};

}  // namespace narrow
