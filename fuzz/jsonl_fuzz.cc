// Bytes as a .jsonl file: documents or an Error, and the same whichever way the bytes are cut.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/json_lines.h"
#include "text/utf8.h"

namespace narrow {
namespace {

using Documents = std::optional<std::vector<std::string>>;  // nothing: refused

constexpr JsonLinesLimits kLimits = {
    .max_documents = 50, .max_line_bytes = 4096, .max_text_bytes = 1 << 16};

Documents Parse(std::string_view bytes, std::size_t piece_bytes) {
  try {
    JsonLinesParser parser("input", kLimits);
    for (std::size_t i = 0; i < bytes.size(); i += piece_bytes) {
      if (!parser.Add(bytes.substr(i, piece_bytes))) break;
    }
    return parser.Finish();
  } catch (const Error& error) {
    const bool expected =
        error.code() == ErrorCode::kCorruptInput || error.code() == ErrorCode::kUnsupported;
    if (!expected || std::string_view(error.what()).find('\n') != std::string_view::npos) throw;
    return std::nullopt;
  }
}

void Check(std::string_view bytes) {
  const Documents whole = Parse(bytes, bytes.size() + 1);
  NARROW_CHECK(Parse(bytes, 1) == whole);
  NARROW_CHECK(Parse(bytes, 7) == whole);
  if (!whole) return;
  NARROW_CHECK(static_cast<int64_t>(whole->size()) <= kLimits.max_documents);
  for (const std::string& document : *whole) NARROW_CHECK(FindInvalidUtf8(document) < 0);
}

}  // namespace
}  // namespace narrow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  narrow::Check({reinterpret_cast<const char*>(data), size});
  return 0;
}
