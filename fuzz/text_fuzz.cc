// Any bytes as .txt or .raw: UTF-8 as a second decoder reads it, and rows that are joined whole.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/dataset.h"
#include "text/utf8.h"

namespace {

// Bytes of the well-formed sequence at the start of `text` (0: none), by the table of the Unicode
// Standard, 3.9 (D92).
std::size_t SequenceBytes(std::string_view text) {
  const auto in = [&](std::size_t i, int low, int high) {
    return i < text.size() && static_cast<uint8_t>(text[i]) >= low &&
           static_cast<uint8_t>(text[i]) <= high;
  };
  const auto tail = [&](std::size_t i) { return in(i, 0x80, 0xBF); };
  if (in(0, 0x00, 0x7F)) return 1;
  if (in(0, 0xC2, 0xDF)) return tail(1) ? 2 : 0;
  if (in(0, 0xE0, 0xEF)) {
    const bool second = in(0, 0xE0, 0xE0)   ? in(1, 0xA0, 0xBF)
                        : in(0, 0xED, 0xED) ? in(1, 0x80, 0x9F)
                                            : tail(1);
    return second && tail(2) ? 3 : 0;
  }
  if (!in(0, 0xF0, 0xF4)) return 0;
  const bool second = in(0, 0xF0, 0xF0)   ? in(1, 0x90, 0xBF)
                      : in(0, 0xF4, 0xF4) ? in(1, 0x80, 0x8F)
                                          : tail(1);
  return second && tail(2) && tail(3) ? 4 : 0;
}

int64_t FirstInvalid(std::string_view text) {
  std::size_t offset = 0;
  while (offset < text.size()) {
    const std::size_t bytes = SequenceBytes(text.substr(offset));
    if (bytes == 0) return static_cast<int64_t>(offset);
    offset += bytes;
  }
  return -1;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  NARROW_CHECK(narrow::FindInvalidUtf8(text) == FirstInvalid(text));
  const std::string joined = narrow::JoinWikiTextRows(text);
  const auto newlines = [](std::string_view s) { return std::count(s.begin(), s.end(), '\n'); };
  const bool unfinished = !text.empty() && text.back() != '\n';
  const int64_t rows = newlines(text) + (unfinished ? 1 : 0);
  int64_t empty = 0;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    if (text.substr(at, 2) == " \n") ++empty;
    if (text.find('\n', at) == text.npos) break;
  }
  NARROW_CHECK(newlines(joined) == newlines(text) - empty + 2 * std::max<int64_t>(0, rows - 1));
  return 0;
}
