// Any bytes are refused with Error{kCorruptInput or kUnsupported} or give tensors that lie inside
// the file, apart from each other, with bytes for their shape.
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/checked_math.h"
#include "base/error.h"
#include "io/gguf.h"

namespace {

void CheckHeader(const narrow::GgufHeader& header, int64_t file_bytes) {
  int64_t covered = 0;
  for (const narrow::GgufTensor& tensor : header.tensors) {
    NARROW_CHECK(tensor.begin >= covered && tensor.bytes() > 0 && tensor.end <= file_bytes);
    const narrow::GgufTypeInfo& info = narrow::Info(tensor.type);
    const auto elements = narrow::CheckedProduct(tensor.shape);
    NARROW_CHECK(elements.has_value());
    NARROW_CHECK(*elements / info.block_elements * info.block_bytes == tensor.bytes());
    covered = tensor.end;
  }
}

// `bytes` as the start of a file of `file_bytes`, zeros after them.
void Parse(std::span<const uint8_t> bytes, int64_t file_bytes) {
  const auto read = [&](int64_t offset, std::span<std::byte> into) {
    NARROW_CHECK(offset >= 0 && offset + std::ssize(into) <= file_bytes);
    for (std::byte& byte : into) {
      byte = offset < std::ssize(bytes) ? std::byte{bytes[static_cast<std::size_t>(offset)]}
                                        : std::byte{0};
      ++offset;
    }
  };
  try {
    CheckHeader(narrow::ParseGguf(read, file_bytes, "input"), file_bytes);
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    const bool one_short_line = message.find('\n') == message.npos && message.size() < 800;
    NARROW_CHECK(one_short_line && (error.code() == narrow::ErrorCode::kCorruptInput ||
                                    error.code() == narrow::ErrorCode::kUnsupported));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Parse({data, size}, static_cast<int64_t>(size));
  // With room for data, so that short inputs can have tensors.
  Parse({data, size}, static_cast<int64_t>(size) + 4096);
  return 0;
}
