// Parquet's hybrid of run lengths and bit packing, for levels and dictionary indices.
// Source: Apache Parquet format 2.11, Encodings.md (RLE / bit-packing hybrid).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace narrow {

// The first `count` numbers of `width` bits (0 to 32). Throws: kCorruptInput, naming `what`, when
// there are fewer.
std::vector<uint32_t> DecodeHybrid(std::span<const std::byte> bytes, int width, int64_t count,
                                   std::string_view what);

}  // namespace narrow
