// A tokenizer.json, a zero byte and a text: every answer is an Error or ids of the vocabulary.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\0');
  const std::string_view text =
      end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  try {
    const narrow::Tokenizer tokenizer =
        narrow::Tokenizer::FromJson(input.substr(0, end), "fuzz input");
    for (const auto special : {narrow::SpecialTokens::kAdd, narrow::SpecialTokens::kNone}) {
      for (const int32_t id : tokenizer.Encode(text, special)) {
        if (id < 0 || id >= tokenizer.vocabulary_size()) __builtin_trap();
        (void)tokenizer.TokenText(id);
      }
    }
  } catch (const narrow::Error& error) {
    if (error.code() == narrow::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
