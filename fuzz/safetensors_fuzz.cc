// Any bytes are refused with Error{kCorruptInput} or tile the file exactly.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/checked_math.h"
#include "base/error.h"
#include "io/safetensors.h"

namespace {

void CheckHeader(const narrow::SafetensorsHeader& header, int64_t file_bytes) {
  int64_t covered = header.header_bytes;
  for (const narrow::SafetensorsEntry& entry : header.entries) {
    NARROW_CHECK(entry.begin == covered && entry.end >= entry.begin);
    const auto elements = narrow::CheckedProduct(entry.shape);
    NARROW_CHECK(elements.has_value());
    NARROW_CHECK(*elements * narrow::ElementBytes(entry.dtype) == entry.bytes());
    covered = entry.end;
  }
  NARROW_CHECK(covered == file_bytes);
}

// `bytes` as the start of a file of `file_bytes`.
void Parse(std::string_view bytes, int64_t file_bytes) {
  try {
    CheckHeader(narrow::ParseSafetensorsHeader(bytes, file_bytes, "input"), file_bytes);
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    const bool one_short_line = message.find('\n') == message.npos && message.size() < 800;
    NARROW_CHECK(one_short_line && error.code() == narrow::ErrorCode::kCorruptInput);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  Parse(file, static_cast<int64_t>(size));
  // A length the mutations rarely get right, so that they reach the JSON as well.
  std::string with_length(8, '\0');
  for (int i = 0; i < 8; ++i) with_length[i] = static_cast<char>((uint64_t{size} >> (8 * i)) & 255);
  with_length += file;
  Parse(with_length, static_cast<int64_t>(with_length.size()));
  Parse(with_length, static_cast<int64_t>(with_length.size()) + 64);
  return 0;
}
