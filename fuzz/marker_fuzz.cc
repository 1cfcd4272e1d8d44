// Any bytes as narrow-output.json are refused with an Error or list files inside of the directory.
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "io/output_marker.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const narrow::OutputMarker marker =
        narrow::ParseOutputMarker(narrow::ParseJson(text, "marker"), "marker");
    for (const auto& [name, file] : marker.files) {
      const std::filesystem::path path(name);
      NARROW_CHECK(!name.empty() && name.find('\0') == name.npos && path.is_relative());
      for (const auto& part : path) NARROW_CHECK(part != ".." && part != "." && !part.empty());
    }
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    const bool one_short_line = message.find('\n') == message.npos && message.size() < 800;
    NARROW_CHECK(one_short_line && error.code() == narrow::ErrorCode::kCorruptInput);
  }
  return 0;
}
