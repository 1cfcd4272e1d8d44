#include "text/utf8.h"

#include <algorithm>
#include <cstring>

namespace narrow {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// Length of the well-formed character at the start of `bytes`, or 0.
int64_t WellFormedLength(const unsigned char* bytes, int64_t count) {
  const unsigned char lead = bytes[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const int64_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (count < length) return 0;
  // The second byte is what tells overlong forms, surrogates and values above U+10FFFF apart.
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  if (bytes[1] < low || bytes[1] > high) return 0;
  for (int64_t i = 2; i < length; ++i) {
    if (!IsContinuation(bytes[i])) return 0;
  }
  return length;
}

}  // namespace

int64_t FindInvalidUtf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const auto size = static_cast<int64_t>(text.size());
  int64_t offset = 0;
  while (offset < size) {
    uint64_t word = 0;
    if (size - offset >= 8) {
      std::memcpy(&word, bytes + offset, 8);
      if ((word & 0x8080808080808080u) == 0) {
        offset += 8;
        continue;
      }
    }
    const int64_t length = WellFormedLength(bytes + offset, size - offset);
    if (length == 0) return offset;
    offset += length;
  }
  return -1;
}

int64_t Utf8Characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return !IsContinuation(static_cast<unsigned char>(c)); });
}

char32_t DecodeUtf8(std::string_view text, int64_t offset) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data()) + offset;
  const int64_t length = Utf8Length(text[static_cast<std::size_t>(offset)]);
  if (length == 1) return bytes[0];
  char32_t code_point = bytes[0] & (0x7Fu >> length);
  for (int64_t i = 1; i < length; ++i) code_point = (code_point << 6) | (bytes[i] & 0x3Fu);
  return code_point;
}

int64_t PreviousUtf8(std::string_view text, int64_t end) {
  --end;
  while (IsContinuation(static_cast<unsigned char>(text[static_cast<std::size_t>(end)]))) --end;
  return end;
}

void AppendUtf8(char32_t code_point, std::string& text) {
  const auto append = [&](char32_t bits) { text.push_back(static_cast<char>(bits)); };
  if (code_point < 0x80) {
    append(code_point);
  } else if (code_point < 0x800) {
    append(0xC0 | (code_point >> 6));
    append(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    append(0xE0 | (code_point >> 12));
    append(0x80 | ((code_point >> 6) & 0x3F));
    append(0x80 | (code_point & 0x3F));
  } else {
    append(0xF0 | (code_point >> 18));
    append(0x80 | ((code_point >> 12) & 0x3F));
    append(0x80 | ((code_point >> 6) & 0x3F));
    append(0x80 | (code_point & 0x3F));
  }
}

}  // namespace narrow
