// For tests of the import: a run, and the numbers of the reference files.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "import/gguf_import.h"
#include "io/checkpoint_reader.h"
#include "tensor/scalar_types.h"

namespace narrow {

inline void Import(const std::filesystem::path& gguf, const std::filesystem::path& directory,
                   const ImportOptions& options = {}) {
  SilentProgress progress;
  ImportGguf(gguf, directory, options, progress);
}

// Of a BF16 tensor.
inline std::vector<float> Values(const CheckpointReader& checkpoint, const std::string& name) {
  const CheckpointReader::TensorLocation& tensor = checkpoint.Get(name);
  EXPECT_EQ(tensor.entry.dtype, Dtype::kBF16);
  std::vector<Bfloat16> bits(static_cast<std::size_t>(tensor.entry.bytes() / 2));
  checkpoint.Read(tensor, std::as_writable_bytes(std::span(bits)));
  std::vector<float> values;
  for (const Bfloat16 value : bits) values.push_back(ToFloat(value));
  return values;
}

// The numbers of the files of testdata/: value() of tools/make_gguf_golden.py, in Hugging Face's
// order.
inline std::vector<float> ExpectedValues(int64_t seed, const Shape& shape) {
  const int64_t rows = shape.size() == 1 ? 1 : shape[0];
  std::vector<float> values;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < shape.back(); ++column) {
      values.push_back(static_cast<float>((row * 31 + column * 17 + seed * 13) % 255 - 127) / 64);
    }
  }
  return values;
}

}  // namespace narrow
