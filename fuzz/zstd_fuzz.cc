// Any bytes as a Zstandard file: refused with an Error, or pieces until the sink has enough.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "io/file.h"
#include "text/zstd_stream.h"

namespace {

constexpr int64_t kEnough = 1 << 20;

// A file in memory that takes the input's place each time.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("input", 0)) { NARROW_CHECK(descriptor_ >= 0); }
  std::string Put(const uint8_t* data, size_t size) const {
    NARROW_CHECK(ftruncate(descriptor_, 0) == 0);
    NARROW_CHECK(pwrite(descriptor_, data, size, 0) == static_cast<ssize_t>(size));
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::ErrorCode;
  static const MemoryFile memory;
  const narrow::InputFile file(memory.Put(data, size));
  int64_t bytes = 0;
  bool stopped = false;
  try {
    narrow::DecompressZstdFile(file, [&](std::string_view piece) {
      NARROW_CHECK(!stopped && !piece.empty());
      bytes += std::ssize(piece);
      stopped = bytes > kEnough;
      return !stopped;
    });
  } catch (const narrow::Error& error) {
    NARROW_CHECK(error.code() == ErrorCode::kCorruptInput ||
                 error.code() == ErrorCode::kUnsupported);
  }
  return 0;
}
