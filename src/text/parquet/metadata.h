// What the footer and the page headers of a Parquet file say, checked against the file.
// Source: Apache Parquet format 2.11 (parquet.thrift, README.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/byte_source.h"

namespace narrow {

enum class ParquetType { kBoolean, kInt32, kInt64, kInt96, kFloat, kDouble, kByteArray, kFixed };
enum class ParquetCodec { kUncompressed = 0, kSnappy = 1, kZstd = 6 };

// The bytes of a column in one row group.
struct ParquetChunk {
  int codec = 0;       // as the file says: maybe one that is not read
  int64_t begin = 0;   // in the file, of its first page
  int64_t bytes = 0;   // all of its pages
  int64_t values = 0;  // rows, null ones included
};

// A column that is a child of the root, once per row at most.
struct ParquetColumn {
  std::string name;
  ParquetType type = ParquetType::kByteArray;
  bool optional = false;
  std::vector<ParquetChunk> chunks;  // one per row group
};

struct ParquetMetadata {
  int64_t rows = 0;
  std::vector<ParquetColumn> columns;  // flat ones, in order
};

// Throws: kCorruptInput for what is no Parquet file, or contradicts itself or the file's size;
// kUnsupported for an encrypted one.
ParquetMetadata ReadParquetMetadata(const ByteSource& file);

struct ParquetPage {
  enum class Kind { kData, kDictionary, kDataV2, kOther } kind = Kind::kOther;
  int64_t header_bytes = 0;
  int64_t compressed_bytes = 0;  // of what follows the header
  int64_t uncompressed_bytes = 0;
  int64_t values = 0;  // null ones included
  int encoding = 0;
  int64_t level_bytes = 0;  // version 2: of definition levels, which are not compressed
  bool compressed = true;   // version 2 may say that it is not
};

// Parses the header that `bytes` begin with. Throws: kCorruptInput, also for sizes that no page
// has.
ParquetPage ParseParquetPage(std::span<const std::byte> bytes, std::string_view what);

}  // namespace narrow
