// Thrift's compact protocol, as far as Parquet uses it, from bytes that may be hostile.
// Source: Apache Thrift, doc/specs/thrift-compact-protocol.md (0.20).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace narrow {

// Walks a message from its start; every read is checked. Thread-compatible.
class ThriftReader {
 public:
  enum class Type : uint8_t {
    kTrue = 1,
    kFalse = 2,
    kByte = 3,
    kInt16 = 4,
    kInt32 = 5,
    kInt64 = 6,
    kDouble = 7,
    kBinary = 8,
    kList = 9,
    kSet = 10,
    kMap = 11,
    kStruct = 12,
  };

  // `what` names the source in messages; both outlive the reader.
  ThriftReader(std::span<const std::byte> bytes, std::string_view what)
      : bytes_(bytes), what_(what) {}

  // Bytes read so far.
  int64_t position() const { return position_; }

  // Calls `field` for every field of a struct, with its id and type; `field` reads the value, or
  // returns false to have it skipped. All functions throw kCorruptInput for a message that ends
  // early, nests deeper than 32, or has types that there are not.
  void Struct(const std::function<bool(int id, Type type)>& field);
  // Calls `element` for every element, which reads it. At most `most`. REQUIRES: `type` was given
  // for the field.
  void List(Type type, Type element_type, int64_t most, const std::function<void()>& element);
  // An integer of any width. Throws, too, when the type is none.
  int64_t Int(Type type);
  bool Bool(Type type);
  std::string_view Binary(Type type);
  void Skip(Type type);

 private:
  [[noreturn]] void Fail(std::string_view problem) const;
  uint8_t Byte();
  uint64_t Varint();
  int64_t ZigZag();
  std::string_view Take(uint64_t bytes);
  Type CheckedType(int type) const;

  std::span<const std::byte> bytes_;
  std::string_view what_;
  int64_t position_ = 0;
  int depth_ = 0;
};

}  // namespace narrow
