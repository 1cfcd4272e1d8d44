// Typed access to the metadata of a GGUF file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace narrow {

// Borrows the header. Every accessor throws kCorruptInput, naming file and key, when the value has
// another type or a string is not UTF-8; the required forms also when the key is missing.
class GgufMetadata {
 public:
  GgufMetadata(const GgufHeader& header, std::string what)
      : header_(header), what_(std::move(what)) {}

  const GgufHeader& header() const { return header_; }
  const std::string& what() const { return what_; }  // the file, for messages

  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  std::optional<int64_t> OptionalInt(std::string_view key) const;
  std::optional<double> OptionalNumber(std::string_view key) const;  // finite
  std::optional<bool> OptionalBool(std::string_view key) const;
  std::optional<std::string> OptionalString(std::string_view key) const;
  int64_t Int(std::string_view key) const;
  double Number(std::string_view key) const;
  std::string String(std::string_view key) const;
  // Null when absent.
  const std::vector<std::string>* OptionalStrings(std::string_view key) const;
  const std::vector<int64_t>* OptionalInts(std::string_view key) const;
  const std::vector<double>* OptionalNumbers(std::string_view key) const;

 private:
  const GgufValue* Find(std::string_view key) const;
  template <typename T>
  const T* Get(std::string_view key, std::string_view expected) const;
  [[noreturn]] void FailMissing(std::string_view key) const;

  const GgufHeader& header_;
  std::string what_;
};

}  // namespace narrow
