// Any bytes within the brackets of a list of token ids: refused with the line, or the numbers that
// stand there.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/json_lines.h"

namespace narrow {
namespace {

// What the list says, without a JSON parser; empty for a text that is no plain list of such
// numbers.
std::string Plain(std::string_view list) {
  std::string numbers;
  for (const char c : list) {
    if (c != ' ' && c != '\t' && c != '\r') numbers += c;
  }
  return numbers;
}

void Check(std::string_view list) {
  const std::string line = "{\"tokens\": [" + std::string(list) + "]}";
  const JsonLines lines = ParseJsonLines(line, "input");
  if (lines.tokens.empty()) return;  // the list ended early, and a text came after it
  std::string written;
  for (const int32_t id : lines.tokens.front().ids) {
    NARROW_CHECK(id >= 0);
    if (!written.empty()) written += ',';
    written += std::to_string(id);
  }
  const bool one_list = list.find_first_not_of("0123456789, \t\r") == list.npos;
  if (one_list) NARROW_CHECK(written == Plain(list));
}

}  // namespace
}  // namespace narrow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    narrow::Check({reinterpret_cast<const char*>(data), size});
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    NARROW_CHECK(error.code() == narrow::ErrorCode::kCorruptInput);
    NARROW_CHECK(message.starts_with("input, line ") && message.find('\n') == message.npos);
  }
  return 0;
}
