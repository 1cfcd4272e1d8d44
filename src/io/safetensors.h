// The safetensors container: header parsing with every lie refused, and header building.
// Source: safetensors format description, version 0.5; docs/formats/checkpoint.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/byte_source.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

// One tensor of a file: bytes [begin, end) counted from the start of the file.
struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::kF32;
  Shape shape;  // empty for a scalar
  int64_t begin = 0;
  int64_t end = 0;
  int64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;  // "__metadata__"
  std::vector<SafetensorsEntry> entries;        // in order of `begin`
  int64_t header_bytes = 0;                     // length prefix and JSON: where the data starts
};

inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;  // the reference's own limit

// Parses the first bytes of a file. `prefix` holds at least the 8-byte length and the header (it
// may hold more); `file_bytes` is the size of the whole file; `what` names it in messages. Throws:
// kCorruptInput for a git-lfs pointer, a header length beyond the file or the limit, JSON that is
// not such a header, unknown dtype, negative or overflowing shape, bytes that differ from shape
// times element size, ranges outside the file, overlapping, duplicate, or leaving gaps.
SafetensorsHeader ParseSafetensorsHeader(std::string_view prefix, int64_t file_bytes,
                                         std::string_view what);

// Reads and parses the header. Throws as the above and ByteSource::ReadAt do.
SafetensorsHeader ReadSafetensorsHeader(const ByteSource& file);

// A tensor to be written.
struct TensorSpec {
  std::string name;
  Dtype dtype = Dtype::kF32;
  Shape shape;
  int64_t bytes() const;  // REQUIRES: the shape's product does not overflow
};

// The layout the writer gives to one file: length prefix, JSON ({"format":"pt"} metadata, padded
// with spaces to a multiple of 8), entries ordered by element size, largest first, then by name.
struct SafetensorsLayout {
  std::string header;                     // the bytes before the data
  std::vector<SafetensorsEntry> entries;  // offsets from the start of the file
  int64_t file_bytes = 0;
};
SafetensorsLayout BuildSafetensorsLayout(std::vector<TensorSpec> tensors);

}  // namespace narrow
