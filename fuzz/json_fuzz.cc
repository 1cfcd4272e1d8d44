// Any bytes are refused with Error{kCorruptInput} or become a document that survives a round trip.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::Json;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Json json;
  try {
    json = narrow::ParseJson(text, "input");
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    const bool one_short_line = message.find('\n') == message.npos && message.size() < 400;
    NARROW_CHECK(one_short_line && error.code() == narrow::ErrorCode::kCorruptInput);
    return 0;
  }
  const std::string written = json.dump();
  NARROW_CHECK(narrow::ParseJson(written, "written").dump() == written);
  return 0;
}
