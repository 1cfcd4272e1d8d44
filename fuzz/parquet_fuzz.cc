// Any bytes as a Parquet file: refused with an Error, or every column of texts until there are
// enough rows.
#include <cstdint>

#include "base/error.h"
#include "io/memory_source.h"
#include "text/parquet/strings.h"

namespace {

constexpr int64_t kEnough = 1 << 16;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::ErrorCode;
  const narrow::MemorySource file(std::as_bytes(std::span(data, size)));
  try {
    const narrow::ParquetMetadata metadata = narrow::ReadParquetMetadata(file);
    for (const narrow::ParquetColumn& column : metadata.columns) {
      if (column.type != narrow::ParquetType::kByteArray) continue;
      int64_t rows = 0;
      bool stopped = false;
      narrow::ReadTexts(file, column, [&](std::optional<std::string_view>) {
        NARROW_CHECK(!stopped);
        stopped = ++rows == kEnough;
        return !stopped;
      });
      NARROW_CHECK(stopped || rows == metadata.rows);
    }
  } catch (const narrow::Error& error) {
    NARROW_CHECK(error.code() == ErrorCode::kCorruptInput ||
                 error.code() == ErrorCode::kUnsupported);
  }
  return 0;
}
