// Any bytes as model.safetensors.index.json are refused with an Error or name files that lie in the
// directory.
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "io/checkpoint_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::ErrorCode;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto weights = narrow::ParseWeightMap(narrow::ParseJson(text, "index"), "index");
    NARROW_CHECK(!weights.empty());
    for (const auto& [tensor, file] : weights) {
      const std::filesystem::path path(file);
      NARROW_CHECK(path.filename() == path && file.ends_with(".safetensors"));
      NARROW_CHECK(file.find('\0') == file.npos && file.find('\\') == file.npos);
    }
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    const bool one_short_line = message.find('\n') == message.npos && message.size() < 800;
    NARROW_CHECK(one_short_line && (error.code() == ErrorCode::kCorruptInput ||
                                    error.code() == ErrorCode::kUnsupported));
  }
  return 0;
}
