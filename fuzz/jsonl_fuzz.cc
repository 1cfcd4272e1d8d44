// Bytes as a .jsonl file: texts, token ids or an Error, and the same whichever way the bytes are
// cut. Empty documents are passed over where the first byte is a space.
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

using Documents = std::optional<JsonLines>;  // nothing: refused

constexpr JsonLinesLimits kLimits = {
    .max_documents = 50, .max_line_bytes = 4096, .max_text_bytes = 1 << 16};

Documents Parse(std::string_view bytes, std::size_t piece_bytes, bool skip_empty) {
  JsonLinesLimits limits = kLimits;
  limits.skip_empty = skip_empty;
  try {
    JsonLinesParser parser("input", limits);
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
  const bool skip_empty = !bytes.empty() && bytes.front() == ' ';
  const Documents whole = Parse(bytes, bytes.size() + 1, skip_empty);
  NARROW_CHECK(Parse(bytes, 7, skip_empty) == whole);
  if (!whole) return;
  NARROW_CHECK(whole->texts.empty() || whole->tokens.empty());
  NARROW_CHECK(std::ssize(whole->texts) + std::ssize(whole->tokens) <= kLimits.max_documents);
  NARROW_CHECK(skip_empty || whole->empty == 0);
  for (const std::string& text : whole->texts) {
    NARROW_CHECK(FindInvalidUtf8(text) < 0 && !(skip_empty && IsWhiteSpace(text)));
  }
  for (const TokenLine& line : whole->tokens) {
    NARROW_CHECK(line.line > 0 && !(skip_empty && line.ids.empty()));
    for (const int32_t id : line.ids) NARROW_CHECK(id >= 0);
  }
}

}  // namespace
}  // namespace narrow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  narrow::Check({reinterpret_cast<const char*>(data), size});
  return 0;
}
