// For tests and fuzz targets: bytes in memory as a source.
#pragma once

#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>

#include "base/error.h"
#include "io/byte_source.h"

namespace narrow {

// Refers to the bytes.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes, std::filesystem::path path = "memory")
      : bytes_(bytes), path_(std::move(path)) {}

  const std::filesystem::path& path() const override { return path_; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  int64_t modified_ns() const override { return 0; }
  void ReadAt(int64_t offset, std::span<std::byte> bytes) const override {
    if (offset < 0 || offset > size() || std::ssize(bytes) > size() - offset) {
      Fail(ErrorCode::kCorruptInput, "{}: ends early", path_.string());
    }
    std::copy_n(bytes_.begin() + offset, bytes.size(), bytes.begin());
  }
  void CheckUnchanged() const override {}

 private:
  std::span<const std::byte> bytes_;
  std::filesystem::path path_;
};

}  // namespace narrow
