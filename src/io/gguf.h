// The GGUF container (versions 2 and 3, little-endian): metadata and tensor directory, with every
// lie refused. What the tensors' blocks mean is the importer's business.
// Source: docs/gguf.md of the ggml project; docs/formats/gguf.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/file.h"
#include "tensor/tensor.h"

namespace narrow {

// Element types of tensors, by their number in the file. Not all of them can be imported.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
};

// A row is a whole number of blocks.
struct GgufTypeInfo {
  GgufType type;
  std::string_view name;
  int64_t block_elements;
  int64_t block_bytes;
};

const GgufTypeInfo& Info(GgufType type);

// A metadata value: integers of every width are int64_t (uint64_t only beyond its range), f32 and
// f64 are double, and arrays are vectors of those (booleans as 0 and 1). Strings are any bytes.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

// One tensor: bytes [begin, end) counted from the start of the file, never empty.
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::kF32;
  Shape shape;  // slowest dimension first, the reverse of the file's order; rank 1 to 4
  int64_t begin = 0;
  int64_t end = 0;
  int64_t bytes() const { return end - begin; }
};

struct GgufHeader {
  uint32_t version = 0;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  // in order of `begin`
};

// Metadata and directory of real models take a few MB.
inline constexpr int64_t kMaxGgufHeaderBytes = int64_t{256} << 20;

// Fills the span from an offset of the file.
using GgufReadAt = std::function<void(int64_t offset, std::span<std::byte> bytes)>;

// Parses the start of a file of `file_bytes`; `what` names it in messages. Throws: kCorruptInput
// for another format, truncation, counts, lengths and offsets beyond the file or the limit above,
// duplicate keys or tensors, unknown value types, ranks other than 1 to 4, empty or overflowing
// shapes, rows that are no whole number of blocks, misaligned, overlapping or out-of-range tensors;
// kUnsupported for version 1, big-endian files, arrays of arrays, and unknown tensor types.
GgufHeader ParseGguf(const GgufReadAt& read, int64_t file_bytes, std::string_view what);

// Reads and parses the header of an open file. Throws as the above and InputFile::ReadAt do.
GgufHeader ReadGguf(const InputFile& file);

}  // namespace narrow
