// Any card is refused with Error{kCorruptInput}, or its front matter becomes JSON.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "io/yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto block = narrow::FrontMatterOf(text);
  try {
    const narrow::Json json = narrow::ParseYaml(block.value_or(text), "input");
    NARROW_CHECK(!json.dump().empty());  // throws for text that is not UTF-8
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    NARROW_CHECK(message.find('\n') == message.npos && message.size() < 400);
    NARROW_CHECK(error.code() == narrow::ErrorCode::kCorruptInput);
  }
  return 0;
}
