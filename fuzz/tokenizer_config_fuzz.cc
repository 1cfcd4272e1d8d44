// Any bytes as tokenizer_config.json, and after zero bytes as added_tokens.json and
// special_tokens_map.json, are refused with an Error or give tokens whose ids follow on those of
// the vocabulary, each content once.
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
#include "text/tokenizer_config.h"

namespace narrow {
namespace {

// A vocabulary of four, some of which the files may name.
const BpeModel& Vocabulary() {
  static const BpeModel model(Json{{"type", "BPE"},
                                   {"vocab", {{"a", 0}, {"b", 1}, {"<s>", 2}, {"<unk>", 3}}},
                                   {"merges", Json::array()}},
                              BpeAlphabet::kCharacters, "vocabulary");
  return model;
}

void Check(const AddedTokenList& list) {
  std::set<std::string> contents;
  std::set<int32_t> ids;
  for (const AddedToken& token : list.tokens()) {
    NARROW_CHECK(contents.insert(token.content).second && list.Contains(token.content));
    NARROW_CHECK(token.id >= 0 && token.id < kMaxTokenIds && ids.insert(token.id).second);
  }
}

Json Next(std::string_view& rest) {
  const std::size_t end = rest.find('\0');
  const std::string_view text = rest.substr(0, end);
  rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
  return text.empty() ? Json::object() : ParseJson(text, "file");
}

}  // namespace
}  // namespace narrow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  try {
    narrow::Json config = narrow::Next(rest);
    narrow::Json older_tokens = narrow::Next(rest);
    const narrow::TokenizerConfig files(std::move(config), std::move(older_tokens),
                                        narrow::Next(rest));
    narrow::AddedTokenList list(narrow::Vocabulary(), "list");
    files.AddTo(list);
    narrow::Check(list);
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    const bool one_short_line = message.find('\n') == message.npos && message.size() < 800;
    NARROW_CHECK(one_short_line && error.code() == narrow::ErrorCode::kCorruptInput);
  }
  return 0;
}
