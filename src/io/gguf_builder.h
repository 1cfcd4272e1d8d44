// For tests: composes GGUF files, true and false ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace narrow {

class GgufBuilder {
 public:
  uint32_t version = 3;
  int64_t extra_tensors = 0;  // claimed beyond those there are
  int64_t extra_pairs = 0;
  int64_t alignment = 32;  // of the data; add general.alignment yourself

  template <typename T>
  static std::string Raw(T value) {
    std::string bytes(sizeof(T), '\0');
    std::memcpy(bytes.data(), &value, sizeof(T));
    return bytes;
  }
  static std::string String(std::string_view text) {
    return Raw(static_cast<uint64_t>(text.size())) + std::string(text);
  }

  // A pair whose value is given as its type number and bytes.
  GgufBuilder& Pair(std::string_view key, uint32_t type, std::string_view bytes) {
    pairs_.push_back(String(key) + Raw(type) + std::string(bytes));
    return *this;
  }
  GgufBuilder& U32(std::string_view key, uint32_t value) { return Pair(key, 4, Raw(value)); }
  GgufBuilder& F32(std::string_view key, float value) { return Pair(key, 6, Raw(value)); }
  GgufBuilder& Bool(std::string_view key, uint8_t value) { return Pair(key, 7, Raw(value)); }
  GgufBuilder& Text(std::string_view key, std::string_view value) {
    return Pair(key, 8, String(value));
  }
  GgufBuilder& Texts(std::string_view key, const std::vector<std::string>& values) {
    std::string bytes = Raw(uint32_t{8}) + Raw(uint64_t{values.size()});
    for (const std::string& value : values) bytes += String(value);
    return Pair(key, 9, bytes);
  }
  template <typename T>  // int32_t or float
  GgufBuilder& Numbers(std::string_view key, const std::vector<T>& values) {
    std::string bytes =
        Raw(uint32_t{std::is_same_v<T, float> ? 6 : 5}) + Raw(uint64_t{values.size()});
    for (const T value : values) bytes += Raw(value);
    return Pair(key, 9, bytes);
  }

  // Directory entry as given; `dimensions` in the file's order, fastest first.
  GgufBuilder& Info(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type,
                    uint64_t offset) {
    std::string info = String(name) + Raw(static_cast<uint32_t>(dimensions.size()));
    for (const uint64_t dimension : dimensions) info += Raw(dimension);
    infos_.push_back(info + Raw(type) + Raw(offset));
    return *this;
  }
  GgufBuilder& Data(std::string_view bytes) {
    data_ += bytes;
    return *this;
  }
  // A tensor in its place: entry and data, padded to the alignment.
  GgufBuilder& Tensor(std::string_view name, const std::vector<uint64_t>& dimensions, GgufType type,
                      std::string_view bytes) {
    Info(name, dimensions, static_cast<uint32_t>(type), data_.size());
    data_ += bytes;
    data_.resize(static_cast<std::size_t>(Aligned(data_.size())), '\0');
    return *this;
  }

  std::string Build() const {
    std::string file = "GGUF" + Raw(version) +
                       Raw(static_cast<int64_t>(infos_.size()) + extra_tensors) +
                       Raw(static_cast<int64_t>(pairs_.size()) + extra_pairs);
    for (const std::string& pair : pairs_) file += pair;
    for (const std::string& info : infos_) file += info;
    if (!data_.empty()) file.resize(static_cast<std::size_t>(Aligned(file.size())), '\0');
    return file + data_;
  }

 private:
  int64_t Aligned(std::size_t size) const {
    return (static_cast<int64_t>(size) + alignment - 1) / alignment * alignment;
  }

  std::vector<std::string> pairs_;
  std::vector<std::string> infos_;
  std::string data_;
};

}  // namespace narrow
