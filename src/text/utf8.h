// UTF-8: validation of text from outside, and decoding of text that passed it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace narrow {

// Offset of the first byte of the first ill-formed sequence (overlong forms, surrogates, code
// points above U+10FFFF, truncation), or -1 when the text is valid. Source: The Unicode Standard
// 15, table 3-7.
int64_t FindInvalidUtf8(std::string_view text);

// Bytes of the character that starts with `lead`. REQUIRES: `lead` starts a valid character.
constexpr int64_t Utf8Length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

// Number of characters. REQUIRES: `text` is valid.
int64_t Utf8Characters(std::string_view text);

// Code point of the character at `text[offset]`. REQUIRES: `text` is valid, `offset` starts a
// character.
char32_t DecodeUtf8(std::string_view text, int64_t offset);

// Offset of the character that ends before `end`. REQUIRES: `text` is valid, end > 0.
int64_t PreviousUtf8(std::string_view text, int64_t end);

// Appends `code_point`. REQUIRES: a Unicode scalar value.
void AppendUtf8(char32_t code_point, std::string& text);

}  // namespace narrow
