#include "text/parquet/thrift.h"

#include <algorithm>

#include "base/error.h"

namespace narrow {
namespace {

constexpr int kMaxDepth = 32;

}  // namespace

void ThriftReader::Fail(std::string_view problem) const {
  narrow::Fail(ErrorCode::kCorruptInput, "{}: {} at byte {} of its metadata; it is damaged", what_,
               problem, position_);
}

uint8_t ThriftReader::Byte() {
  if (position_ >= static_cast<int64_t>(bytes_.size())) Fail("it ends early");
  return static_cast<uint8_t>(bytes_[static_cast<std::size_t>(position_++)]);
}

uint64_t ThriftReader::Varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const uint8_t byte = Byte();
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  Fail("a number has no end");
}

int64_t ThriftReader::ZigZag() {
  const uint64_t value = Varint();
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

std::string_view ThriftReader::Take(uint64_t bytes) {
  if (bytes > bytes_.size() - static_cast<std::size_t>(position_)) Fail("it ends early");
  const char* data = reinterpret_cast<const char*>(bytes_.data()) + position_;
  position_ += static_cast<int64_t>(bytes);
  return {data, static_cast<std::size_t>(bytes)};
}

ThriftReader::Type ThriftReader::CheckedType(int type) const {
  if (type < 1 || type > 12) Fail("there is no such type");
  return static_cast<Type>(type);
}

void ThriftReader::Struct(const std::function<bool(int id, Type type)>& field) {
  if (++depth_ > kMaxDepth) Fail("it nests too deep");
  int64_t id = 0;
  for (;;) {
    const uint8_t head = Byte();
    if (head == 0) break;
    const Type type = CheckedType(head & 0x0F);
    id = head >> 4 != 0 ? id + (head >> 4) : ZigZag();
    if (id < INT16_MIN || id > INT16_MAX) Fail("a field has no such number");
    if (!field(static_cast<int>(id), type)) Skip(type);
  }
  --depth_;
}

void ThriftReader::List(Type type, Type element_type, int64_t most,
                        const std::function<void()>& element) {
  if (type != Type::kList) Fail("a list was expected");
  const uint8_t head = Byte();
  const uint64_t count = head >> 4 == 15 ? Varint() : head >> 4;
  if (count > static_cast<uint64_t>(most)) Fail("a list is too long");
  if (count > 0 && CheckedType(head & 0x0F) != element_type) Fail("a list is of another type");
  for (uint64_t i = 0; i < count; ++i) element();
}

int64_t ThriftReader::Int(Type type) {
  if (type == Type::kByte) return static_cast<int8_t>(Byte());
  if (type != Type::kInt16 && type != Type::kInt32 && type != Type::kInt64) {
    Fail("a whole number was expected");
  }
  return ZigZag();
}

bool ThriftReader::Bool(Type type) {
  if (type != Type::kTrue && type != Type::kFalse) Fail("true or false was expected");
  return type == Type::kTrue;
}

std::string_view ThriftReader::Binary(Type type) {
  if (type != Type::kBinary) Fail("a text was expected");
  return Take(Varint());
}

void ThriftReader::Skip(Type type) {
  if (depth_ > kMaxDepth) Fail("it nests too deep");
  switch (type) {
    case Type::kTrue:
    case Type::kFalse:
      return;
    case Type::kByte:
      Byte();
      return;
    case Type::kInt16:
    case Type::kInt32:
    case Type::kInt64:
      Varint();
      return;
    case Type::kDouble:
      Take(8);
      return;
    case Type::kBinary:
      Take(Varint());
      return;
    case Type::kStruct:
      Struct([](int, Type) { return false; });
      return;
    case Type::kList:
    case Type::kSet:
    case Type::kMap:
      break;
  }
  ++depth_;
  const uint8_t head = Byte();
  const bool map = type == Type::kMap;
  uint64_t count = head;
  Type first = Type::kByte;
  Type second = Type::kByte;
  if (map) {
    --position_;
    count = Varint();
    const uint8_t types = count > 0 ? Byte() : 0;
    if (count > 0) first = CheckedType(types >> 4);
    if (count > 0) second = CheckedType(types & 0x0F);
  } else {
    count = head >> 4 == 15 ? Varint() : head >> 4;
    if (count > 0) first = CheckedType(head & 0x0F);
  }
  // A boolean in a collection is a byte of its own: every element takes one at least.
  const auto skip = [this](Type element) {
    if (element == Type::kTrue || element == Type::kFalse) {
      Byte();
    } else {
      Skip(element);
    }
  };
  for (uint64_t i = 0; i < count; ++i) {
    skip(first);
    if (map) skip(second);
  }
  --depth_;
}

}  // namespace narrow
